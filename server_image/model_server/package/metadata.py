"""Reads and checks model.yaml; `package/reader.py` calls it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from model_server.domain.features import Metadata
from model_server.errors import MetadataInvalid
from model_server.validation import ValidationErrors, validate


def read_metadata(path: Path) -> Metadata:
    """Read and check a model.yaml. Raises MetadataInvalid that names the field and what it expects."""
    # Imported only here: a package needs no model.yaml.
    import yaml

    # libyaml's is ten times as fast, which thousands of features feel.
    reader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = path.read_text(encoding="utf-8")
        document = yaml.load(text, Loader=reader)  # noqa: S506 - both are safe loaders
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MetadataInvalid(f"{path.name} is not YAML: {' '.join(str(error).split())}") from None
    if document is None:
        return Metadata()
    if not isinstance(document, dict):
        raise MetadataInvalid(f"{path.name} holds a {type(document).__name__}, not fields")
    if isinstance(document.get("version"), int | float | date) and not isinstance(document["version"], bool):
        # A number or a date to YAML, and a name to people: 1.10 is not 1.1.
        document["version"] = _as_written(yaml.compose(text, Loader=reader), "version")
    try:
        return validate(document, Metadata)
    except ValidationErrors as invalid:
        raise MetadataInvalid(f"{path.name}: {invalid}") from None


def _as_written(document: Any, name: str) -> str:
    """The text of a value at the top of a composed document; of a name that is there twice the last one's."""
    return str([value.value for key, value in document.value if key.value == name][-1])
