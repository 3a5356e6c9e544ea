"""What the files of a package say of the model. Everything is read here; `document.py` is pure."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from modeldeploy.bom.facts import Dataset, Document, Package
from modeldeploy.bom.requirements import parse_requirements
from modeldeploy.package.digest import digest_of, file_digests, files_of, tree_digest
from modeldeploy.package.signing import SIGNATURE
from modeldeploy.requests import Refused
from modeldeploy.yaml_text import load_yaml

#: Documents of more bytes are not what they are called.
_MOST_BYTES = 16 * 2**20


def read_package(folder: Path) -> Package:
    """Read a package. Raises Refused for a folder without files, and for a file that is not what its name says."""
    if not folder.is_dir():
        raise Refused(f"{folder} is no folder: put the model's file into one, with what belongs to it")
    files = file_digests(folder, files_of(folder))
    if not files:
        raise Refused(f"{folder} is empty")
    requirements = folder / "requirements.txt"
    return Package(
        name=folder.resolve().name,
        files=files,
        sha256=digest_of(files),
        metadata=_yaml(folder / "model.yaml"),
        mlmodel=_yaml(folder / "MLmodel"),
        config=_config(folder / "config.json"),
        card=_card(folder / "README.md"),
        libraries=parse_requirements(_text(requirements)) if requirements.is_file() else None,
        signature=_json(folder / SIGNATURE),
    )


def read_dataset(text: str) -> Dataset:
    """A data set that is a file or folder here, or a URI. Raises Refused."""
    parts = urlsplit(text)
    if parts.scheme and "://" in text:
        if "@" in parts.netloc or parts.query:
            raise Refused(f"--dataset {parts.scheme}://{parts.hostname}... has credentials or a query: leave them out")
        return Dataset(name=parts.path.rstrip("/").rpartition("/")[2] or parts.netloc, url=text)
    path = Path(text)
    if path.is_dir():
        return Dataset(name=path.resolve().name, sha256=tree_digest(path, files_of(path)))
    if not path.is_file():
        raise Refused(f"--dataset {text} is no file: name one, or a URI such as s3://data/churn/2026-01.parquet")
    return Dataset(name=path.name, sha256=file_digests(path.parent, [path.name])[path.name])


def read_evaluation(path: Path) -> Document:
    """The result of `python -m model_server evaluate`. Raises Refused."""
    if not path.is_file():
        raise Refused(f"--evaluation {path} is no file")
    found = _json(path)
    if found.get("reason"):
        raise Refused(f"{path} tells that the evaluation failed: {found['reason']}: {str(found.get('message'))[:500]}")
    if not isinstance(found.get("metrics"), dict):
        raise Refused(f"{path} has no metrics: write what `python -m model_server evaluate` wrote")
    return found


def _text(path: Path) -> str:
    if path.stat().st_size > _MOST_BYTES:
        raise Refused(f"{path} has more than {_MOST_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Refused(f"{path} is no text in UTF-8") from None


def _yaml(path: Path) -> Document:
    if not path.is_file():
        return {}
    try:
        found = load_yaml(_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise Refused(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict | None):
        raise Refused(f"{path} holds a {type(found).__name__}, not fields")
    return found or {}


def _json(path: Path) -> Document:
    if not path.is_file():
        return {}
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refused(f"{path} holds a {type(found).__name__}, not fields")
    return found


def _config(path: Path) -> Document:
    """What transformers wrote; {} for a file of this name that is something else's."""
    try:
        return _json(path)
    except Refused:
        return {}


def _card(path: Path) -> Document:
    """The YAML between two lines of dashes; {} where the file begins in another way, or its head is no YAML."""
    if not path.is_file():
        return {}
    head, _, rest = _text(path).partition("\n")
    block, end, _ = rest.partition("\n---")
    if head.strip() != "---" or not end:
        return {}
    try:
        found = load_yaml(block)
    except (yaml.YAMLError, RecursionError):
        # A rule in prose looks like it, and nobody is held to write a head.
        return {}
    return found if isinstance(found, dict) else {}
