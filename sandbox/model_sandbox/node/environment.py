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


_OWN = ("server", "operator")
#: The images of the product, run by the Python that runs the sandbox.
IMAGES: dict[str, tuple[str, ...]] = {
    **{f"modeldeploy/{name}": (sys.executable, "-m", f"model_{name}") for name in _OWN},
    # Python's own image, for the example of a server that is not the product's.
    "python": (sys.executable,),
}
# As in any image, said in the environment where the rule of rewriting sees it: bind to the pod's address.
_IMAGE_ENVIRONMENT = {f"modeldeploy/{name}": {f"MODEL_{name.upper()}_HOST": "0.0.0.0"} for name in _OWN}  # noqa: S104


def find_image(image: str, known: Mapping[str, tuple[str, ...]]) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """The entrypoint and the environment of an image, by the end of its repository's name. Raises UnknownImage."""
    repository = re.sub(r":[\w.-]+$", "", image.partition("@")[0])
    for name in sorted(known, key=len, reverse=True):
        if repository == name or repository.endswith(f"/{name}"):
            return known[name], _IMAGE_ENVIRONMENT.get(name, {})
    raise UnknownImage(
        f'"{image}" is not an image of this sandbox, which runs local processes and pulls nothing. '
        f"Known images: {', '.join(sorted(known))}. Add one with: --image {repository}=COMMAND"
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod runs: its address and what its paths stand for."""

    address: str
    paths: Mapping[str, Path] = field(default_factory=dict)

    def rewrite(self, text: str) -> str:
        """The one rule by which a text is made true on this machine."""
        for path in sorted(self.paths, key=len, reverse=True):
            pattern = rf"(?<![\w.\-]){re.escape(path)}(?=$|[/:;,\"'\s\])}}&?#])"
            text = re.sub(pattern, str(self.paths[path]).replace("\\", r"\\"), text)
        return re.sub(r"(?<![\d.])0\.0\.0\.0(?![\d.])", self.address, text)


@dataclass(frozen=True, slots=True)
class Sources:
    """What env and volumes may refer to. `objects` are ConfigMaps and Secrets by (`configmap` or `secret`, name)."""

    pod: Obj
    objects: Mapping[tuple[str, str], Mapping[str, bytes]]
    host_ip: str
    capacity: Mapping[str, str]

    def files(self, kind: str, reference: Obj) -> Mapping[str, bytes]:
        """The content of a ConfigMap or Secret; nothing if it is optional and not there. Raises ConfigError."""
        name = reference.get("name") or reference.get("secretName", "")
        if (kind, name) not in self.objects and not reference.get("optional"):
            raise ConfigError(f'{kind} "{name}" not found')
        return self.objects.get((kind, name), {})

    def value(self, kind: str, reference: Obj) -> str | None:
        """One key of it; None if it is optional and not there. Raises ConfigError."""
        content, key = self.files(kind, reference), reference["key"]
        if key not in content:
            if reference.get("optional"):
                return None
            word, namespace = {"secret": "Secret"}.get(kind, "ConfigMap"), self.pod["metadata"]["namespace"]
            raise ConfigError(f"couldn't find key {key} in {word} {namespace}/{reference['name']}")
        return content[key].decode(errors="replace")

    def own(self, origin: Obj, container: Obj) -> str:
        """A field of the pod, or a resource of a container. Raises ConfigError for one that is not known."""
        if "fieldRef" in origin:
            return self._field(origin["fieldRef"]["fieldPath"])
        reference = origin["resourceFieldRef"]
        name = reference.get("containerName", container["name"])
        owner = next((one for one in self.pod["spec"]["containers"] if one["name"] == name), container)
        kind, _, resource = reference["resource"].partition(".")
        given = (owner.get("resources") or {}).get(kind, {}).get(resource)
        # The node's capacity stands for a limit that is not set.
        value = parse_quantity(given if given is not None else self.capacity.get(resource, "0"))
        return str(math.ceil(value / parse_quantity(reference.get("divisor") or "1")))

    def _field(self, path: str) -> str:
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        if one := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
            return str((metadata.get(one[1]) or {}).get(one[2], ""))
        pod_ip = (self.pod.get("status") or {}).get("podIP", "")
        known = {f"metadata.{name}": metadata[name] for name in ("name", "namespace", "uid")}
        known |= {f"spec.{name}": spec.get(name, "") for name in ("nodeName", "serviceAccountName")}
        known |= {"status.hostIP": self.host_ip, "status.hostIPs": self.host_ip}
        known |= {"status.podIP": pod_ip, "status.podIPs": pod_ip}
        for name in ("labels", "annotations"):
            pairs = sorted((metadata.get(name) or {}).items())
            known[f"metadata.{name}"] = "\n".join(f'{key}="{value}"' for key, value in pairs)
        if path not in known:
            raise ConfigError(f"fieldRef {path} is not known; known: {', '.join(known)}")
        return str(known[path])


_REFERENCE = re.compile(r"\$(?:\$|\(([A-Za-z_][\w.\-]*)\))")


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` by its value; an unknown one stays; `$$` is a dollar sign."""
    return _REFERENCE.sub(lambda match: values.get(match[1], match[0]) if match[1] else "$", text)


def environment(container: Obj, sources: Sources, place: Place) -> dict[str, str]:
    """The variables that a container asks for, rewritten for this machine. Raises ConfigError."""
    values: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        kind = "secret" if "secretRef" in source else "configmap"
        for key, content in sources.files(kind, source.get("secretRef") or source.get("configMapRef") or {}).items():
            name = source.get("prefix", "") + key
            if re.fullmatch(r"[A-Za-z_.\-][\w.\-]*", name):
                values[name] = content.decode(errors="replace")
    for entry in container.get("env") or []:
        origin, value = entry.get("valueFrom"), None
        if origin is None:
            value = expand(entry.get("value", ""), values)
        elif "secretKeyRef" in origin:
            value = sources.value("secret", origin["secretKeyRef"])
        elif "configMapKeyRef" in origin:
            value = sources.value("configmap", origin["configMapKeyRef"])
        else:
            value = sources.own(origin, container)
        if value is not None:
            values[entry["name"]] = value
    return {name: place.rewrite(value) for name, value in values.items()}


def command_line(container: Obj, entrypoint: Sequence[str], values: Mapping[str, str], place: Place) -> list[str]:
    """What to start: `command` and `args` replace or extend the image's entrypoint."""
    texts = [*(container.get("command") or entrypoint), *(container.get("args") or [])]
    return [place.rewrite(expand(text, values)) for text in texts]
