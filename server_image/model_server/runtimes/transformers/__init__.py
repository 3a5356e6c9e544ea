"""Hugging Face models as `save_pretrained` writes them: config.json, safetensors, tokenizer.json.

Nothing is downloaded. Weights are read from safetensors alone, on the CPU and in single precision. Code of the
package's own (`auto_map`) is run only where the package is trusted or pinned.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
import transformers

from model_server.domain.model import Model
from model_server.errors import ArtifactCorrupt, LoadFailed, MetadataInvalid, first_line
from model_server.package.reader import Package
from model_server.runtimes.transformers.config import (
    Pooling,
    Task,
    check_code,
    entailment_of,
    labels_of,
    pooling_of,
    task_of,
    token_limit,
)
from model_server.runtimes.transformers.encoder import Encoder
from model_server.runtimes.transformers.tasks import (
    Embedder,
    TextClassifier,
    TokenClassifier,
    ZeroShotClassifier,
    check_declared,
)

T = TypeVar("T")

_NETWORKS = {
    Task.TEXT: transformers.AutoModelForSequenceClassification,
    Task.ZERO_SHOT: transformers.AutoModelForSequenceClassification,
    Task.TOKENS: transformers.AutoModelForTokenClassification,
    Task.EMBEDDINGS: transformers.AutoModel,
}


def load(package: Package, *, threads: int) -> Model:
    """Read the folder. Raises LoadFailed, ArtifactCorrupt, MetadataInvalid or ArtifactNotTrusted."""
    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    root = package.root
    config = _read(root / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise LoadFailed(
            "config.json has no model_type", hint="Save the model with save_pretrained, and upload the whole folder."
        )
    tokenizer_config = _read(root / "tokenizer_config.json")
    documents = {"config.json": config, "tokenizer_config.json": tokenizer_config}
    has_code = check_code(documents, trusted=package.trusted)
    modules = _read(root / "modules.json", [])
    task = task_of(config, package.metadata.task, is_sentence_transformer=bool(modules))
    pooling = _pooling(root, modules) if task is Task.EMBEDDINGS else Pooling()
    tokenizer = _opened("the tokenizer", lambda: _tokenizer(root, has_code=has_code))
    network = _opened("the model", lambda: _network(root, task, has_code=has_code))
    encoder = Encoder(network, tokenizer, _limit(network, tokenizer, pooling))
    _check_declared(package, task)
    if task is Task.EMBEDDINGS:
        return Embedder(encoder, pooling)
    labels = labels_of(config, network.config.num_labels)
    if task is Task.TOKENS:
        return TokenClassifier(encoder, labels)
    if task is Task.TEXT:
        return TextClassifier(encoder, labels, str(config.get("problem_type") or ""))
    entailment = entailment_of(config)
    if entailment is None:
        raise LoadFailed(
            f"zero-shot classification needs a label `entailment`, and the model's are {', '.join(labels)}",
            hint="Use a model for natural language inference (MNLI), or another task.",
        )
    return ZeroShotClassifier(encoder, entailment)


def _pooling(root: Path, modules: Any) -> Pooling:
    path = next((one.get("path", "") for one in modules if str(one.get("type")).endswith("Pooling")), "")
    if ".." in Path(path).parts or Path(path).is_absolute():
        raise LoadFailed(f"modules.json: path {path!r} must be a folder inside the package")
    return pooling_of(
        modules,
        _read(root / path / "config.json") if path else {},
        _read(root / "sentence_bert_config.json"),
        _read(root / "config_sentence_transformers.json"),
    )


def _tokenizer(root: Path, *, has_code: bool) -> Any:
    found = transformers.AutoTokenizer.from_pretrained(root, local_files_only=True, trust_remote_code=has_code)
    if not found.is_fast:
        raise LoadFailed(
            "the tokenizer is no tokenizer.json", hint="Save it with AutoTokenizer(..., use_fast=True).save_pretrained."
        )
    return found


def _network(root: Path, task: Task, *, has_code: bool) -> Any:
    network, told = _NETWORKS[task].from_pretrained(
        root,
        local_files_only=True,
        trust_remote_code=has_code,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    # The library would fill these with random numbers. Nothing here asks the pooler of an embedding model.
    missing = [name for name in sorted(told["missing_keys"]) if task is not Task.EMBEDDINGS or "pooler." not in name]
    if missing:
        raise LoadFailed(
            f"the weights lack {len(missing)} tensors of the model, {missing[0]} among them",
            hint=f"Was it trained for {task}? Save it with save_pretrained, or write its task into model.yaml.",
        )
    return network


def _limit(network: Any, tokenizer: Any, pooling: Pooling) -> int:
    # RoBERTa and its relatives count positions from behind that of padding.
    embeddings = getattr(network.base_model, "embeddings", None)
    offset = getattr(embeddings, "padding_idx", None)
    return token_limit(
        positions=getattr(network.config, "max_position_embeddings", None),
        offset=0 if offset is None else offset + 1,
        tokenizer=tokenizer.model_max_length,
        declared=pooling.max_tokens,
    )


def _check_declared(package: Package, task: Task) -> None:
    names = [feature.name for feature in package.model_metadata.input_features]
    if task is Task.ZERO_SHOT:
        known = {"text": True, "candidate_labels": True, "multi_label": False, "hypothesis_template": False}
        fault = check_declared(names, known)
    else:
        most = 2 if task is Task.TEXT else 1
        fault = f"input_features are {', '.join(names)}, and the task takes {most}" if len(names) > most else ""
    wrong = [
        one.name
        for one in package.model_metadata.input_features
        if task is not Task.ZERO_SHOT and one.dtype != "string"
    ]
    if not fault and wrong:
        fault = f"{wrong[0]} must be of dtype string"
    if fault:
        raise MetadataInvalid(f"{package.described_in}: {fault}")


def _opened(what: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except (LoadFailed, ArtifactCorrupt):
        raise
    except safetensors.SafetensorError as error:
        raise ArtifactCorrupt(f"the weights cannot be read: {first_line(error)}") from None
    except Exception as error:
        # Reading builds classes from names in the files, which may fail in any way.
        raise LoadFailed(
            f"{what} cannot be loaded: {type(error).__name__}: {first_line(error)}",
            hint=f"transformers {transformers.__version__} is installed; was the model saved by a newer one?"
            " Upload the whole folder that save_pretrained wrote.",
        ) from None


def _read(path: Path, default: Any = None) -> Any:
    """A JSON file of the folder, `default` (else an empty object) where it is absent. Raises ArtifactCorrupt."""
    empty: Any = {} if default is None else default
    if not path.is_file():
        return empty
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactCorrupt(f"{path.name} is not JSON: {error}") from None
    if type(document) is not type(empty):
        raise ArtifactCorrupt(f"{path.name} is not {'a list' if isinstance(empty, list) else 'an object'}")
    return document
