"""Volumes as folders: what is written where for a pod's mounts."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path

from model_sandbox.client import Obj
from model_sandbox.node.environment import ConfigError, Sources, field_value, resource_value

Token = Callable[[], str]


def _write(folder: Path, name: str, content: bytes, mode: int) -> None:
    target = folder / name
    if ".." in Path(name).parts or (target.is_absolute() and not target.is_relative_to(folder)):
        raise ConfigError(f"{name} would lie outside of its volume")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed, so that a reader never sees half of an update.
    fresh = target.with_name(f".{target.name}.new")
    fresh.write_bytes(content)
    fresh.chmod(mode | 0o200)
    fresh.replace(target)


def _content(source: Obj, kind: str, sources: Sources) -> dict[str, bytes]:
    """The files of a ConfigMap or Secret volume."""
    name = source.get("name") or source.get("secretName", "")
    held = (sources.secrets if kind == "secret" else sources.config_maps).get(name)
    if held is None:
        if source.get("optional"):
            return {}
        raise ConfigError(f'{kind} "{name}" not found')
    items = source.get("items")
    if not items:
        return {key: _bytes(value) for key, value in held.items()}
    files = {}
    for item in items:
        if item["key"] not in held:
            if source.get("optional"):
                continue
            raise ConfigError(f"references non-existent {kind} key: {item['key']}")
        files[item["path"]] = _bytes(held[item["key"]])
    return files


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _downward(items: list[Obj], sources: Sources) -> dict[str, bytes]:
    files = {}
    for item in items:
        if "fieldRef" in item:
            files[item["path"]] = field_value(sources, item["fieldRef"]["fieldPath"]).encode()
        else:
            first = sources.pod["spec"]["containers"][0]
            files[item["path"]] = resource_value(sources, item["resourceFieldRef"], first).encode()
    return files


def _projected(volume: Obj, sources: Sources, token: Token) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for source in volume.get("sources") or []:
        if "configMap" in source:
            files.update(_content(source["configMap"], "configmap", sources))
        elif "secret" in source:
            files.update(_content(source["secret"], "secret", sources))
        elif "downwardAPI" in source:
            files.update(_downward(source["downwardAPI"].get("items") or [], sources))
        elif "serviceAccountToken" in source:
            files[source["serviceAccountToken"]["path"]] = token().encode()
    return files


def materialise(volume: Obj, folder: Path, claims: Path, sources: Sources, token: Token) -> Path:
    """The folder that a volume stands for, filled. Raises ConfigError; an unknown kind lists the known ones."""
    if "hostPath" in volume:
        return _host_path(volume["hostPath"])
    if "persistentVolumeClaim" in volume:
        claim = claims.joinpath(sources.pod["metadata"]["namespace"], volume["persistentVolumeClaim"]["claimName"])
        claim.mkdir(parents=True, exist_ok=True)
        return claim
    folder.mkdir(parents=True, exist_ok=True)
    mode = 0o644
    files: dict[str, bytes] = {}
    if "configMap" in volume:
        files, mode = _content(volume["configMap"], "configmap", sources), volume["configMap"].get("defaultMode", 420)
    elif "secret" in volume:
        files, mode = _content(volume["secret"], "secret", sources), volume["secret"].get("defaultMode", 420)
        mode &= 0o700  # processes of one machine: nobody else reads a Secret
    elif "downwardAPI" in volume:
        files = _downward(volume["downwardAPI"].get("items") or [], sources)
    elif "projected" in volume:
        files, mode = _projected(volume["projected"], sources, token), 0o600
    elif "emptyDir" not in volume:
        kind = next((name for name in volume if name != "name"), "none")
        known = "emptyDir, configMap, secret, downwardAPI, projected, hostPath, persistentVolumeClaim"
        raise ConfigError(f"volume {volume['name']} is of kind {kind}, which is left out here; known: {known}")
    for name, content in files.items():
        _write(folder, name, content, mode)
    return folder


def _host_path(source: Obj) -> Path:
    path, kind = Path(source["path"]), source.get("type", "")
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "Directory" and not path.is_dir():
        raise ConfigError(f"hostPath type check failed: {path} is not a directory")
    elif kind == "File" and not path.is_file():
        raise ConfigError(f"hostPath type check failed: {path} is not a file")
    return path


def decoded(kind: str, body: Obj) -> dict[str, str | bytes]:
    """The content of a ConfigMap or Secret."""
    data: dict[str, str | bytes] = dict(body.get("data") or {})
    if kind == "secret":
        data = {key: base64.b64decode(value) for key, value in data.items()}
    for key, value in (body.get("binaryData") or {}).items():
        data[key] = base64.b64decode(value)
    return {key: _text(value) for key, value in data.items()}


def _text(value: str | bytes) -> str | bytes:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def mount_paths(container: Obj, folders: dict[str, Path]) -> dict[str, Path]:
    """What each mount path of a container stands for."""
    paths: dict[str, Path] = {}
    for mount in container.get("volumeMounts") or []:
        folder = folders.get(mount["name"])
        if folder is None:
            raise ConfigError(f"volume {mount['name']} is not among the pod's volumes")
        part = mount.get("subPath", "")
        if ".." in Path(part).parts or Path(part).is_absolute():
            raise ConfigError(f"subPath {part} must lie within its volume")
        target = folder / part if part else folder
        if part and not target.exists():
            target.mkdir(parents=True)
        paths[os.path.normpath(mount["mountPath"])] = target
    return paths
