"""The models of the four tasks: what becomes of the network's outputs, as transformers' own pipelines have it.

https://huggingface.co/docs/transformers/main_classes/pipelines
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_server.domain.features import Feature
from model_server.domain.model import Signature
from model_server.domain.tensors import Array, Inputs, Outputs
from model_server.errors import InvalidInput
from model_server.runtimes.transformers.config import Pooling
from model_server.runtimes.transformers.encoder import Encoder

#: Labels in one row of a zero-shot request: each is a pass of the network.
MOST_LABELS = 100
_TEMPLATE = "This example is {}."


def text_feature(limit: int) -> Feature:
    """The input of all tasks."""
    return Feature(
        name="text", dtype="string", description=f"A text; what is behind its first {limit} tokens is not read.",
        example="The train was late again.",
    )  # fmt: skip


class _TextModel:
    """Has a text a row, or a pair of texts where model.yaml declares two features."""

    runs_inline = True
    probability_output = ""
    classes: tuple[object, ...] = ()

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.signature = Signature(takes_texts=True, features=(text_feature(encoder.limit),))

    def _tokens(self, inputs: Inputs) -> Any:
        texts, *pairs = (array.reshape(-1).tolist() for array in inputs.values())
        return self._encoder.tokenize(texts, *pairs)


class TextClassifier(_TextModel):
    """Gives a label a row; a list of labels where several may be right, and a number where there is only one."""

    def __init__(self, encoder: Encoder, labels: tuple[str, ...], problem: str) -> None:
        super().__init__(encoder)
        self._labels = np.array(labels, dtype=object)
        self._is_multi_label = problem == "multi_label_classification"
        self._is_bounded = problem != "regression"
        if len(labels) > 1 and self._is_bounded:
            self.probability_output = "predict_proba"
            self.classes = labels

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        tokens = self._tokens(inputs)
        logits = np.empty((len(tokens["input_ids"]), len(self._labels)), dtype=np.float32)
        for places, _, outputs in self._encoder.run(tokens):
            logits[places] = outputs["logits"]
        if not self.probability_output:
            values = _sigmoid(logits) if self._is_bounded else logits
            return {"predict": values[:, 0] if values.shape[1] == 1 else values}
        rated = _sigmoid(logits) if self._is_multi_label else softmax(logits)
        answer = {"predict": self._several(rated) if self._is_multi_label else self._labels[rated.argmax(1)]}
        return answer | {"predict_proba": rated} if probabilities else answer

    def _several(self, rated: Array) -> Array:
        return _objects([self._labels[row > 0.5].tolist() for row in rated])


class TokenClassifier(_TextModel):
    """Gives the entities of each text: `{"entity_group", "score", "word", "start", "end"}`, places in characters."""

    def __init__(self, encoder: Encoder, labels: tuple[str, ...]) -> None:
        super().__init__(encoder)
        self._labels = labels

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        texts = next(iter(inputs.values())).reshape(-1).tolist()
        tokens = self._encoder.tokenize(texts)
        found: list[Any] = [None] * len(texts)
        for places, _, outputs in self._encoder.run(tokens):
            for row, place in enumerate(places):
                offsets, special = tokens["offset_mapping"][place], tokens["special_tokens_mask"][place]
                rated = softmax(outputs["logits"][row, : len(offsets)])
                found[place] = self._entities(texts[place], rated, offsets, special)
        return {"predict": _objects(found)}

    def _entities(
        self, text: str, rated: Array, offsets: Sequence[tuple[int, int]], special: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Neighbours with one label as one entity; a label that begins with `B-` begins another."""
        groups: list[tuple[str, list[int]]] = []
        for place, row in enumerate(rated):
            if special[place]:
                continue
            label = self._labels[int(row.argmax())]
            kind = label[2:] if label[:2] in ("B-", "I-") else label
            if groups and groups[-1][0] == kind and not label.startswith("B-"):
                groups[-1][1].append(place)
            else:
                groups.append((kind, [place]))
        return [
            {
                "entity_group": kind,
                "score": float(rated[places].max(1).mean()),
                "word": text[offsets[places[0]][0] : offsets[places[-1]][1]],
                "start": offsets[places[0]][0],
                "end": offsets[places[-1]][1],
            }
            for kind, places in groups
            if kind != "O"
        ]


class ZeroShotClassifier:
    """Rates labels that the request brings, by whether the text entails "This example is LABEL."."""

    runs_inline = True
    probability_output = ""
    classes: tuple[object, ...] = ()

    def __init__(self, encoder: Encoder, entailment: int) -> None:
        self._encoder = encoder
        self._entailment = entailment
        labels = Feature(
            name="candidate_labels", dtype="any", example="travel, cooking, politics",
            description=f"A list of labels, or a text with commas between them; {MOST_LABELS} at most.",
        )  # fmt: skip
        several = Feature(
            name="multi_label", dtype="any", nullable=True, example=False,
            description="true: each label is rated by itself, and several may be right.",
        )  # fmt: skip
        template = Feature(
            name="hypothesis_template", dtype="string", nullable=True, example=_TEMPLATE,
            description=f"The sentence into which a label is put for {{}}; by default {_TEMPLATE!r}.",
        )  # fmt: skip
        self.signature = Signature(features=(text_feature(encoder.limit), labels, several, template))

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        rows = [dict(zip(inputs, values, strict=True)) for values in zip(*map(_values, inputs.values()), strict=True)]
        labels = [_labels_of(row["candidate_labels"], _where(index)) for index, row in enumerate(rows)]
        templates = [_template_of(row.get("hypothesis_template"), _where(index)) for index, row in enumerate(rows)]
        alone = [_flag_of(row.get("multi_label"), _where(index)) for index, row in enumerate(rows)]
        premises = [row["text"] for row, known in zip(rows, labels, strict=True) for _ in known]
        pairs = [
            template.replace("{}", label) for template, known in zip(templates, labels, strict=True) for label in known
        ]
        logits = self._logits(premises, pairs)
        names, scores, start = [], [], 0
        for known, is_alone in zip(labels, alone, strict=True):
            rated = self._rated(logits[start : start + len(known)], alone=is_alone or len(known) == 1)
            start += len(known)
            order = np.argsort(-rated, kind="stable")
            names.append([known[place] for place in order])
            scores.append([float(rated[place]) for place in order])
        return {"labels": _objects(names), "scores": _objects(scores)}

    def _logits(self, premises: Sequence[str], pairs: Sequence[str]) -> Array:
        found: Array | None = None
        for places, _, outputs in self._encoder.run(self._encoder.tokenize(premises, pairs, cut="only_first")):
            if found is None:
                found = np.empty((len(premises), outputs["logits"].shape[1]), dtype=np.float32)
            found[places] = outputs["logits"]
        assert found is not None  # noqa: S101 - each row has a label
        return found

    def _rated(self, logits: Array, *, alone: bool) -> Array:
        if not alone:
            return softmax(logits[:, self._entailment])
        contradiction = -1 if self._entailment == 0 else 0
        return softmax(logits[:, [contradiction, self._entailment]])[:, 1]


class Embedder(_TextModel):
    """Gives a vector a text, float32 of shape (rows, dimensions)."""

    token_output = "tokens"  # noqa: S105 - of a text

    def __init__(self, encoder: Encoder, pooling: Pooling) -> None:
        super().__init__(encoder)
        self._pooling = pooling

    def count_tokens(self, texts: Sequence[str]) -> int:
        """How many tokens the network computes for these texts."""
        prompt = self._pooling.prompt
        return sum(map(len, self._encoder.tokenize([prompt + text for text in texts])["input_ids"]))

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        texts = [self._pooling.prompt + text for text in next(iter(inputs.values())).reshape(-1).tolist()]
        tokens = self._encoder.tokenize(texts)
        found: list[Any] = [None] * len(texts)
        for places, mask, outputs in self._encoder.run(tokens):
            vectors = self._pooled(outputs["last_hidden_state"], mask)
            for row, place in enumerate(places):
                found[place] = vectors[row]
        answer = {"predict": np.stack(found)}
        return answer | {self.token_output: np.array([*map(len, tokens["input_ids"])])} if probabilities else answer

    def _pooled(self, hidden: Array, mask: Array) -> Array:
        """`hidden` of shape (rows, tokens, size), `mask` 1 for tokens and 0 for padding."""
        vectors = np.concatenate([pool(mode, hidden, mask) for mode in self._pooling.modes], axis=1)
        if self._pooling.normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return np.asarray(vectors, dtype=np.float32)


def pool(mode: str, hidden: Array, mask: Array) -> Array:
    """The vectors of a text's tokens as one, shape (rows, size); padding has no part in it."""
    weights = mask[:, :, np.newaxis].astype(hidden.dtype)
    counts = np.maximum(weights.sum(1), 1)
    if mode == "cls":
        return hidden[:, 0]
    if mode == "max":
        return np.asarray(np.where(weights > 0, hidden, -np.inf).max(1))
    if mode == "lasttoken":
        return np.asarray(hidden[np.arange(len(hidden)), np.maximum(mask.sum(1) - 1, 0)])
    total = (hidden * weights).sum(1)
    return np.asarray(total / (np.sqrt(counts) if mode == "mean_sqrt_len_tokens" else counts))


def softmax(logits: Array) -> Array:
    """Over the last axis."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True))


def _sigmoid(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-logits)))


def _values(array: Array) -> list[Any]:
    values: list[Any] = array.reshape(-1).tolist()
    return values


def _where(index: int) -> str:
    return f"instances[{index}]"


def _labels_of(value: Any, where: str) -> list[str]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidInput.at(f"{where}.candidate_labels", "expected a list of texts, or one text with commas")
    names = [name.strip() for name in names if name.strip()]
    if not 0 < len(names) <= MOST_LABELS:
        raise InvalidInput.at(f"{where}.candidate_labels", f"expected 1 to {MOST_LABELS} labels, got {len(names)}")
    return names


def _template_of(value: Any, where: str) -> str:
    if value is None:
        return _TEMPLATE
    if "{}" not in value:
        raise InvalidInput.at(f"{where}.hypothesis_template", f"expected a sentence with {{}} in it, as {_TEMPLATE!r}")
    return str(value)


def _flag_of(value: Any, where: str) -> bool:
    # V2 has text where a feature takes anything.
    found = {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value
    if found is not None and not isinstance(found, bool):
        raise InvalidInput.at(f"{where}.multi_label", "expected true or false")
    return bool(found)


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        array[place] = value
    return array


def check_declared(names: Sequence[str], task_features: Mapping[str, bool]) -> str:
    """What is wrong with the input features in model.yaml, "" where nothing is; `task_features` says what is needed."""
    strange = [name for name in names if name not in task_features]
    missing = [name for name, is_needed in task_features.items() if is_needed and name not in names]
    if names and (strange or missing):
        return f"input_features are {', '.join(names)}, and the task takes {', '.join(task_features)}"
    return ""
