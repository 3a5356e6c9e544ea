"""What a container's process gets: its command, environment and rewritten paths. Pure.

Pods on one machine share its files and its loopback. One rule makes up for that. In the values of `env` and
in `command` and `args`,

* a mount path, or the termination message path, becomes the folder or file it stands for on this machine;
* the bind address `0.0.0.0` becomes the pod's own address.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model_sandbox.client import Obj
from model_sandbox.quantity import parse_quantity


class ConfigError(Exception):
    """A container that cannot be made: `CreateContainerConfigError`."""


class UnknownImage(Exception):
    """An image for which no command is known: `ErrImagePull`."""


@dataclass(frozen=True, slots=True)
class Images:
    """Which command an image stands for, by the end of its repository's name."""

    commands: Mapping[str, tuple[str, ...]]

    def command(self, image: str) -> tuple[str, ...]:
        """The entrypoint of an image. Raises UnknownImage with the known ones."""
        return self.commands[self._name(image)]

    def environment(self, image: str) -> dict[str, str]:
        """The variables that an image sets. Raises UnknownImage."""
        return _IMAGE_ENVIRONMENT.get(self._name(image), {})

    def _name(self, image: str) -> str:
        repository = re.sub(r"(@sha256:[0-9a-f]+)$|(:[\w.-]+)$", "", re.sub(r"@.*$", "", image))
        for name in sorted(self.commands, key=len, reverse=True):
            if repository == name or repository.endswith(f"/{name}"):
                return name
        known = ", ".join(sorted(self.commands))
        raise UnknownImage(
            f'"{image}" is not an image of this sandbox, which runs local processes and pulls nothing. '
            f"Known images: {known}. Add one with: --image {repository}=COMMAND"
        )


# As in any image, said in the environment where the rule of rewriting sees it: bind to the pod's address.
_IMAGE_ENVIRONMENT = {
    "modeldeploy/server": {"MODEL_SERVER_HOST": "0.0.0.0"},  # noqa: S104
    "modeldeploy/operator": {"MODEL_OPERATOR_HOST": "0.0.0.0"},  # noqa: S104
}


def default_images() -> dict[str, tuple[str, ...]]:
    """The images of the product, run by the Python that runs the sandbox."""
    return {
        "modeldeploy/server": (sys.executable, "-m", "model_server"),
        "modeldeploy/operator": (sys.executable, "-m", "model_operator"),
    }


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod runs: its address and what its paths stand for."""

    address: str
    paths: Mapping[str, Path] = field(default_factory=dict)

    def rewrite(self, text: str) -> str:
        """The one rule by which a text is made true on this machine."""
        for path in sorted(self.paths, key=len, reverse=True):
            pattern = rf"(?<![\w.\-]){re.escape(path)}(?=$|[/:;,\"'\s\])}}&?#])"
            text = re.sub(pattern, lambda _, path=path: str(self.paths[path]), text)  # type: ignore[misc]
        return re.sub(r"(?<![\d.])0\.0\.0\.0(?![\d.])", self.address, text)


@dataclass(frozen=True, slots=True)
class Sources:
    """What env and volumes may refer to."""

    pod: Obj
    config_maps: Mapping[str, Obj]
    secrets: Mapping[str, Obj]
    host_ip: str
    capacity: Mapping[str, str]


_REFERENCE = re.compile(r"\$(?:\$|\(([A-Za-z_][\w.\-]*)\))")


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` by its value; an unknown one stays; `$$` is a dollar sign."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        return values.get(name, match[0])

    return _REFERENCE.sub(replace, text)


def field_value(sources: Sources, path: str) -> str:
    """A downward API field. Raises ConfigError for one that is not known."""
    pod = sources.pod
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    indexed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if indexed:
        return str((metadata.get(indexed[1]) or {}).get(indexed[2], ""))
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.hostIP": sources.host_ip,
        "status.hostIPs": sources.host_ip,
        "status.podIP": status.get("podIP", ""),
        "status.podIPs": status.get("podIP", ""),
    }
    for name in ("labels", "annotations"):
        pairs = sorted((metadata.get(name) or {}).items())
        known[f"metadata.{name}"] = "\n".join(f'{key}="{value}"' for key, value in pairs)
    if path not in known:
        raise ConfigError(f"fieldRef {path} is not known; known: {', '.join(known)}")
    return str(known[path])


def resource_value(sources: Sources, reference: Obj, container: Obj) -> str:
    """A resourceFieldRef: requests or limits of a container, the node's capacity where there is no limit."""
    name = reference.get("containerName", container["name"])
    owner = next((one for one in sources.pod["spec"]["containers"] if one["name"] == name), container)
    kind, _, resource = reference["resource"].partition(".")
    given = (owner.get("resources") or {}).get(kind, {}).get(resource)
    value = parse_quantity(given if given is not None else sources.capacity.get(resource, "0"))
    return str(math.ceil(value / parse_quantity(reference.get("divisor") or "1")))


def _from_object(sources: Sources, reference: Obj, kind: str) -> str | None:
    objects = sources.config_maps if kind == "configmap" else sources.secrets
    name, key = reference["name"], reference["key"]
    held = objects.get(name)
    if held is None or key not in held:
        if reference.get("optional"):
            return None
        if held is None:
            raise ConfigError(f'{kind} "{name}" not found')
        word = "Secret" if kind == "secret" else "ConfigMap"
        namespace = sources.pod["metadata"]["namespace"]
        raise ConfigError(f"couldn't find key {key} in {word} {namespace}/{name}")
    return str(held[key])


def _env_from(container: Obj, sources: Sources) -> dict[str, str]:
    values: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        kind = "secret" if "secretRef" in source else "configmap"
        reference = source.get("secretRef") or source.get("configMapRef") or {}
        objects = sources.secrets if kind == "secret" else sources.config_maps
        held = objects.get(reference.get("name", ""))
        if held is None:
            if reference.get("optional"):
                continue
            raise ConfigError(f'{kind} "{reference.get("name", "")}" not found')
        for key, value in held.items():
            name = source.get("prefix", "") + key
            if re.fullmatch(r"[A-Za-z_.\-][\w.\-]*", name):
                values[name] = str(value)
    return values


def environment(container: Obj, sources: Sources, place: Place) -> dict[str, str]:
    """The variables that a container asks for, rewritten for this machine. Raises ConfigError."""
    values = _env_from(container, sources)
    for entry in container.get("env") or []:
        name, origin = entry["name"], entry.get("valueFrom")
        if origin is None:
            values[name] = expand(entry.get("value", ""), values)
            continue
        value: str | None
        if "fieldRef" in origin:
            value = field_value(sources, origin["fieldRef"]["fieldPath"])
        elif "resourceFieldRef" in origin:
            value = resource_value(sources, origin["resourceFieldRef"], container)
        elif "secretKeyRef" in origin:
            value = _from_object(sources, origin["secretKeyRef"], "secret")
        else:
            value = _from_object(sources, origin["configMapKeyRef"], "configmap")
        if value is not None:
            values[name] = value
    return {name: place.rewrite(value) for name, value in values.items()}


def command_line(container: Obj, images: Images, values: Mapping[str, str], place: Place) -> list[str]:
    """What to start: `command` and `args` replace or extend the image's entrypoint. Raises UnknownImage."""
    entrypoint: Sequence[str] = images.command(container.get("image", ""))
    command = container.get("command") or entrypoint
    texts = [*command, *(container.get("args") or [])]
    return [place.rewrite(expand(text, values)) for text in texts]
