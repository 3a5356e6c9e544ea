"""Models in container images ("modelcars"): which manifest is meant, and the folder /models out of its layers.

`oci.py` fetches, this module reads what came. An image's layers lie over each other: a later one
replaces files of an earlier one, and deletes them by names that begin with `.wh.`.
https://github.com/opencontainers/image-spec/blob/main/layer.md
"""

from __future__ import annotations

import platform
import shutil
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from model_server.errors import ArchiveUnsafe, ArtifactCorrupt, FormatUnknown
from model_server.package.archives import ArchiveLimits, Budget, safe_path

FOLDER = "models"
_PUSH = (
    "Push the package's files with `oras push REGISTRY/NAME:TAG model.onnx model.yaml`, "
    "or build an image that has them in /models."
)
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_DELETED, _DELETED_ALL = ".wh.", ".wh..wh..opq"


def choose_platform(manifest: bytes, uri: str) -> str:
    """The digest of this machine's image in an index; "" when the manifest is an image's own.

    Raises FormatUnknown when the index has none for this machine.
    """
    try:
        entries = orjson.loads(manifest).get("manifests")
        if entries is None:
            return ""
        # Attestations are entries too, of the platform "unknown".
        found = {_platform(entry): str(entry["digest"]) for entry in entries}
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        raise _no_manifest(uri) from None
    mine = f"linux/{_MACHINES.get(platform.machine(), platform.machine())}"
    found.pop("unknown/unknown", None)
    if len(found) == 1:
        return next(iter(found.values()))
    if mine not in found:
        known = ", ".join(sorted(found)) or "none"
        raise FormatUnknown(f"{uri} is an index without an image for {mine}; it has: {known}", hint=_PUSH)
    return found[mine]


def _platform(entry: dict[str, Any]) -> str:
    found = entry.get("platform") or {}
    return f"{found.get('os', 'linux')}/{found.get('architecture', 'any')}"


def layers_of(manifest: bytes, uri: str) -> list[dict[str, Any]]:
    """The layers of a manifest, each with `digest` and `size`. Raises FormatUnknown for a document without."""
    try:
        layers: list[dict[str, Any]] = orjson.loads(manifest)["layers"]
        is_known = all(str(one["digest"]).startswith("sha256:") and int(one["size"]) >= 0 for one in layers)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise _no_manifest(uri) from None
    if not layers or not is_known:
        raise _no_manifest(uri)
    return layers


def _no_manifest(uri: str) -> FormatUnknown:
    return FormatUnknown(f"{uri} is no manifest with layers", hint=_PUSH)


def no_models(uri: str) -> FormatUnknown:
    """The error of an image that has no package."""
    return FormatUnknown(f"{uri} is a container image without files in /{FOLDER}", hint=_PUSH)


def unpack_models(uri: str, layers: Sequence[Path], root: Path) -> None:
    """Write what the image has in /models to `root`, and remove the layers' files.

    Raises FormatUnknown for an image without /models, ArchiveUnsafe and ArtifactCorrupt as for archives.
    """
    limits = ArchiveLimits()
    budget = Budget(uri, limits.total_bytes, limits.entries)
    for layer in layers:
        try:
            with tarfile.open(layer) as tar:
                _lay_over(tar, uri, root, budget)
        except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
            hint = "Layers are read when they are tar, with gzip or without."
            raise ArtifactCorrupt(f"a layer of {uri} cannot be unpacked: {error}", hint=hint) from None
    if not root.exists() or not any(root.iterdir()):
        raise no_models(uri)
    shutil.rmtree(layers[0].parent)


def _lay_over(tar: tarfile.TarFile, uri: str, root: Path, budget: Budget) -> None:
    for member in tar:
        path = PurePosixPath(member.name.removeprefix("./").lstrip("/"))
        if str(path) == f"{_DELETED}{FOLDER}":
            shutil.rmtree(root, ignore_errors=True)
        if not path.parts or path.parts[0] != FOLDER or member.isdir():
            continue
        inside = safe_path(uri, str(path.relative_to(FOLDER)) if len(path.parts) > 1 else path.name)
        target = root / inside
        if inside.name.startswith(_DELETED):
            _delete(target)
            continue
        content = tar.extractfile(member) if member.isreg() else None
        if content is None:
            kind = "a link" if member.issym() or member.islnk() else "a device"
            raise ArchiveUnsafe(f"{uri} holds {member.name!r}, which is {kind}")
        budget.count_entry()
        target.parent.mkdir(parents=True, exist_ok=True)
        with content, target.open("wb") as file:
            budget.copy(content, file)


def _delete(mark: Path) -> None:
    """Do what a layer's `.wh.` entry asks for: away with one name, or with all there was in the folder."""
    gone = mark.parent if mark.name == _DELETED_ALL else mark.with_name(mark.name.removeprefix(_DELETED))
    if gone.is_dir():
        shutil.rmtree(gone)
    else:
        gone.unlink(missing_ok=True)
