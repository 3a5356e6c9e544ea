"""Tokenizes texts and calls the network, some rows at a time; what a row gives does not depend on its neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from model_server.domain.tensors import Array

#: Rows in one call of the network: a request of thousands must not need the memory of all of them at once.
CHUNK_ROWS = 32
#: How much of a long text the tokenizer gets at first, for each token that is read; texts have four or five.
CHARACTERS_OF_A_TOKEN = 16
#: Characters of a word: a longer one is unknown to most tokenizers, or many tokens.
LONGEST_WORD = 128


class Encoder:
    """A network with its tokenizer, for texts of at most `limit` tokens: what is longer is cut."""

    def __init__(self, network: Any, tokenizer: Any, limit: int) -> None:
        self.limit = limit
        self._network = network.eval()
        self._tokenizer = tokenizer
        # Without a token for padding there is nothing that a batch could be filled up with.
        self._chunk = CHUNK_ROWS if tokenizer.pad_token_id is not None else 1
        self._padding = {
            "input_ids": tokenizer.pad_token_id or 0,
            "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0),
        }

    def tokenize(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, cut: str = "longest_first"
    ) -> dict[str, list[Any]]:
        """The tokens of each text, or of each pair of texts, cut at the limit; lists by name, and offsets.

        The library would make tokens of a whole book to keep its first page, which takes minutes: so it gets a text's
        begin, and more of it where that gave too few tokens.
        """
        characters = self.limit * CHARACTERS_OF_A_TOKEN
        tokens = self._tokenize([text[:characters] for text in texts], pairs, cut, characters)
        while short := [
            place
            for place, text in enumerate(texts)
            if len(text) > characters and not self._is_full(tokens, place, characters)
        ]:
            characters *= 4
            chosen = None if pairs is None else [pairs[place] for place in short]
            more = self._tokenize([texts[place][:characters] for place in short], chosen, cut, characters)
            for name, rows in more.items():
                for place, row in zip(short, rows, strict=True):
                    tokens[name][place] = row
        return tokens

    def _tokenize(
        self, texts: list[str], pairs: Sequence[str] | None, cut: str, characters: int
    ) -> dict[str, list[Any]]:
        found = self._tokenizer(
            texts,
            None if pairs is None else [pair[:characters] for pair in pairs],
            truncation=cut,
            max_length=self.limit,
            padding=False,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        return {name: list(rows) for name, rows in found.items()}

    def _is_full(self, tokens: Mapping[str, list[Any]], place: int, characters: int) -> bool:
        """Whether the text's begin gave all tokens that are read, none of them from the word where it was cut."""
        last = max(end for _, end in tokens["offset_mapping"][place])
        return len(tokens["input_ids"][place]) >= self.limit and last <= characters - LONGEST_WORD

    def run(self, tokens: Any) -> Iterator[tuple[list[int], Array, Mapping[str, Array]]]:
        """Call the network for all rows, those of like length together.

        Gives for each call the places of its rows, their mask of shape (rows, tokens), and the network's outputs.
        """
        names = [name for name in self._tokenizer.model_input_names if name in tokens]
        lengths = [len(row) for row in tokens["input_ids"]]
        places = sorted(range(len(lengths)), key=lengths.__getitem__)
        for start in range(0, len(places), self._chunk):
            chosen = places[start : start + self._chunk]
            longest = max(lengths[place] for place in chosen)
            given = {name: self._padded([tokens[name][place] for place in chosen], name, longest) for name in names}
            mask = self._padded([tokens["attention_mask"][place] for place in chosen], "attention_mask", longest)
            with torch.inference_mode():
                answer = self._network(**{name: torch.from_numpy(array) for name, array in given.items()})
            outputs = {name: value.float().numpy() for name, value in answer.items() if isinstance(value, torch.Tensor)}
            yield chosen, mask, outputs

    def _padded(self, rows: Sequence[Sequence[int]], name: str, longest: int) -> Array:
        # At the end, so that positions stay those that a row alone has.
        array = np.full((len(rows), longest), self._padding.get(name, 0), dtype=np.int64)
        for place, row in enumerate(rows):
            array[place, : len(row)] = row
        return array
