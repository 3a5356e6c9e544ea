"""What is known of a package and of the data behind it: made by `package.py`, told by `document.py`. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modeldeploy.bom.requirements import Library

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Data that the model was trained or evaluated with; `url` where it is a URI, `sha256` where it is here."""

    name: str
    url: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package.

    Attributes:
        name: of the folder.
        files: digest (SHA-256) by path.
        sha256: digest of the package, as `spec.model.sha256` has it.
        metadata: model.yaml.
        mlmodel: MLmodel, of a model that MLflow saved.
        config: config.json, of a model of transformers.
        card: the head of README.md, as on the Hugging Face Hub.
        libraries: of requirements.txt; None without one.
        signature: model.sig, a Sigstore bundle; empty without one.
    """

    name: str
    files: Mapping[str, str]
    sha256: str
    metadata: Document
    mlmodel: Document
    config: Document
    card: Document
    libraries: Sequence[Library] | None
    signature: Document
