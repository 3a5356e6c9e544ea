"""What the files of a Hugging Face folder say: the task, the pooling of embeddings, the length of texts. Pure.

https://huggingface.co/docs/transformers/main_classes/configuration and, for embeddings,
https://sbert.net/docs/sentence_transformer/usage/custom_models.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from model_server.errors import ArtifactNotTrusted, LoadFailed

#: Texts are cut after so many tokens where the model itself says nothing, and after MOST_TOKENS whatever it says.
DEFAULT_TOKENS = 512
MOST_TOKENS = 8192
#: Poolings in the order in which sentence-transformers puts their vectors side by side.
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "lasttoken")


class Task(StrEnum):
    """The tasks that are served, by the Hub's names."""

    TEXT = "text-classification"
    TOKENS = "token-classification"
    ZERO_SHOT = "zero-shot-classification"
    EMBEDDINGS = "feature-extraction"


_TASKS = ", ".join(Task)
_CHOOSE = f"In model.yaml write the task, if the model is for one of these: {_TASKS}."


def task_of(config: Mapping[str, Any], wanted: str, *, is_sentence_transformer: bool) -> Task:
    """The task: `wanted` in model.yaml, else what the architecture is for. Raises LoadFailed that lists the tasks."""
    if wanted:
        if wanted not in list(Task):
            raise LoadFailed(f"task {wanted!r} in model.yaml is not served", hint=f"Tasks that are: {_TASKS}.")
        return Task(wanted)
    if is_sentence_transformer:
        return Task.EMBEDDINGS
    architecture = next(iter(config.get("architectures") or ()), "")
    if architecture.endswith("ForSequenceClassification"):
        return Task.TEXT if entailment_of(config) is None else Task.ZERO_SHOT
    if architecture.endswith("ForTokenClassification"):
        return Task.TOKENS
    if architecture.endswith("Model"):
        return Task.EMBEDDINGS
    named = f"the architecture {architecture}" if architecture else "no architecture"
    raise LoadFailed(f"config.json names {named}, which is for no task that is served here", hint=_CHOOSE)


def labels_of(config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The labels in the order of the model's outputs."""
    named = {int(place): str(label) for place, label in (config.get("id2label") or {}).items()}
    return tuple(named.get(place, f"LABEL_{place}") for place in range(count))


def entailment_of(config: Mapping[str, Any]) -> int | None:
    """The place of the label for "the premise entails the hypothesis", None for a model that has none."""
    for place, label in (config.get("id2label") or {}).items():
        if str(label).lower().startswith("entail"):
            return int(place)
    return None


def token_limit(*, positions: int | None, offset: int, tokenizer: int, declared: int | None) -> int:
    """How many tokens of a text are read: the fewest of what model, tokenizer and sentence-transformers say.

    `offset` are the positions that a family as RoBERTa's keeps for padding.
    """
    known = [positions - offset] if positions else []
    known += [one for one in (tokenizer, declared) if one and one < 10**9]
    return min(min(known, default=DEFAULT_TOKENS), MOST_TOKENS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """How the vectors of a text's tokens become its embedding."""

    modes: tuple[str, ...] = ("mean",)
    normalize: bool = False
    #: What is put in front of each text.
    prompt: str = ""
    max_tokens: int | None = None


def pooling_of(
    modules: Sequence[Mapping[str, Any]],
    pooling: Mapping[str, Any],
    sentence: Mapping[str, Any],
    prompts: Mapping[str, Any],
) -> Pooling:
    """The pooling of a sentence-transformers folder; without `modules` the mean. Raises LoadFailed for other modules.

    The arguments are modules.json, the config.json of its pooling, sentence_bert_config.json and
    config_sentence_transformers.json.
    """
    if not modules:
        return Pooling()
    kinds = [str(one.get("type", "")).rpartition(".")[2] for one in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise LoadFailed(
            f"modules.json lists {', '.join(kinds)}",
            hint="Served are Transformer, Pooling and Normalize, in this order; serve others by a model.py.",
        )
    if pooling.get("include_prompt") is False:
        raise LoadFailed("the pooling leaves out the prompt", hint="Serve this model by a model.py.")
    name = prompts.get("default_prompt_name")
    return Pooling(
        modes=_modes(pooling),
        normalize="Normalize" in kinds,
        prompt=str((prompts.get("prompts") or {}).get(name, "")) if name else "",
        max_tokens=sentence.get("max_seq_length"),
    )


def _modes(pooling: Mapping[str, Any]) -> tuple[str, ...]:
    """The modes that are switched on, in either of the two forms that the library has written."""
    named = pooling.get("pooling_mode")
    if named is None:
        flags = {"mean": "mean_tokens", "max": "max_tokens", "cls": "cls_token"}
        known = {f"pooling_mode_{flags.get(mode, mode)}": mode for mode in POOLINGS}
        wanted = [known.get(key, key) for key, value in pooling.items() if key.startswith("pooling_mode") and value]
    else:
        wanted = [named] if isinstance(named, str) else list(named)
    strange = [mode for mode in wanted if mode not in POOLINGS]
    if strange or not wanted:
        raise LoadFailed(
            f"the pooling {strange[0]!r} is not served" if strange else "the pooling has no mode",
            hint=f"Served are {', '.join(POOLINGS)}; serve others by a model.py.",
        )
    return tuple(mode for mode in POOLINGS if mode in wanted)


def check_code(documents: Mapping[str, Mapping[str, Any]], *, trusted: bool) -> bool:
    """Whether the model or its tokenizer is code of the package's own (`auto_map`), which is run only where trusted.

    `documents` are files by name. Raises ArtifactNotTrusted, or LoadFailed for code of another repository.
    """
    for name, document in documents.items():
        references = [one for one in _texts((document.get("auto_map") or {}).values()) if one]
        if references and not trusted:
            raise ArtifactNotTrusted(
                f"{name} names code of the package's own ({references[0]}),"
                " and the package is neither pinned nor trusted",
                hint="Read that code; then set sha256, or trusted: true.",
            )
        elsewhere = [one for one in references if "--" in one]
        if elsewhere:
            raise LoadFailed(
                f"{name} names code of another repository ({elsewhere[0]}), which is not in the package",
                hint="Put its files into the package, and leave out the part in front of `--` in auto_map.",
            )
        if references:
            return True
    return False


def _texts(values: Any) -> list[str]:
    """References to classes; a tokenizer has two, and one of them may be null."""
    return [one for value in values for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]
