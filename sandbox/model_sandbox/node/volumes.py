"""Volumes as folders: what is written where for a pod's mounts."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from model_sandbox.client import Obj
from model_sandbox.node.environment import ConfigError, Sources

KNOWN = "emptyDir, configMap, secret, downwardAPI, projected, hostPath, persistentVolumeClaim"
_REFERRING = {
    **dict.fromkeys(("configMap", "configMapRef", "configMapKeyRef"), "configmap"),
    **dict.fromkeys(("secret", "secretRef", "secretKeyRef"), "secret"),
}


def references(part: Any) -> Iterator[tuple[str, str]]:
    """The ConfigMaps and Secrets that a part of a pod's spec names, as (`configmap` or `secret`, name)."""
    if isinstance(part, list):
        for item in part:
            yield from references(item)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key in _REFERRING and isinstance(value, dict):
                yield _REFERRING[key], value.get("name") or value.get("secretName", "")
            yield from references(value)


def decoded(kind: str, body: Obj) -> dict[str, bytes]:
    """The content of a ConfigMap or Secret."""
    plain = {key: value.encode() for key, value in (body.get("data") or {}).items()}
    if kind == "secret":
        plain = {key: base64.b64decode(value) for key, value in plain.items()}
    return {**plain, **{key: base64.b64decode(value) for key, value in (body.get("binaryData") or {}).items()}}


def _files(volume: Obj, sources: Sources, token: str) -> dict[str, bytes]:
    """What is in a volume, or in one of the sources of a projected one."""
    files: dict[str, bytes] = {}
    for name, kind in (("configMap", "configmap"), ("secret", "secret")):
        if name in volume:
            files |= _picked(volume[name], kind, sources)
    for item in (volume.get("downwardAPI") or {}).get("items") or []:
        files[item["path"]] = sources.own(item, sources.pod["spec"]["containers"][0]).encode()
    if "serviceAccountToken" in volume:
        files[volume["serviceAccountToken"]["path"]] = token.encode()
    for source in (volume.get("projected") or {}).get("sources") or []:
        files |= _files(source, sources, token)
    return files


def _picked(source: Obj, kind: str, sources: Sources) -> dict[str, bytes]:
    content = sources.files(kind, source)
    items = source.get("items") or [{"key": key, "path": key} for key in content]
    missing = [item["key"] for item in items if item["key"] not in content]
    if missing and not source.get("optional"):
        raise ConfigError(f"references non-existent {kind} key: {missing[0]}")
    return {item["path"]: content[item["key"]] for item in items if item["key"] in content}


def materialise(volume: Obj, folder: Path, claims: Path, sources: Sources, token: str) -> Path:
    """The folder that a volume stands for, filled. Raises ConfigError; an unknown kind lists the known ones."""
    kind = next((name for name in volume if name != "name"), "none")
    source = volume.get(kind) or {}
    if kind not in KNOWN.split(", "):
        raise ConfigError(f"volume {volume['name']} is of kind {kind}, which is left out here; known: {KNOWN}")
    if kind == "hostPath":
        return _host_path(source)
    if kind == "persistentVolumeClaim":
        folder = claims.joinpath(sources.pod["metadata"]["namespace"], source["claimName"])
    folder.mkdir(parents=True, exist_ok=True)
    # Processes of one machine: nobody else reads a Secret or a token.
    mode = source.get("defaultMode", 0o644) & (0o700 if kind in ("secret", "projected") else 0o777)
    for name, content in _files(volume, sources, token).items():
        _write(folder, name, content, mode | 0o200)
    return folder


def _write(folder: Path, name: str, content: bytes, mode: int) -> None:
    target = _within(folder, name)
    if target.is_file() and target.read_bytes() == content:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed, so that a reader never sees half of an update.
    fresh = target.with_name(f".{target.name}.new")
    fresh.write_bytes(content)
    fresh.chmod(mode)
    fresh.replace(target)


def _within(folder: Path, part: str) -> Path:
    if ".." in Path(part).parts or Path(part).is_absolute():
        raise ConfigError(f"{part} would lie outside of its volume")
    return folder / part


def _host_path(source: Obj) -> Path:
    path, kind = Path(source["path"]), source.get("type", "")
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    if (kind == "Directory" and not path.is_dir()) or (kind == "File" and not path.is_file()):
        raise ConfigError(f"hostPath type check failed: {path} is not a {kind.lower()}")
    return path


def mount_paths(container: Obj, folders: Mapping[str, Path]) -> dict[str, Path]:
    """What each mount path of a container stands for. Raises ConfigError."""
    paths: dict[str, Path] = {}
    for mount in container.get("volumeMounts") or []:
        if mount["name"] not in folders:
            raise ConfigError(f"volume {mount['name']} is not among the pod's volumes")
        target = _within(folders[mount["name"]], mount.get("subPath", ""))
        if not target.exists():
            target.mkdir(parents=True)
        paths[os.path.normpath(mount["mountPath"])] = target
    return paths
