"""What an importer returns: a ModelDeployment, a model.yaml, and what of the source is not in them. PURE."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from modeldeploy.rollout import GROUP

Body = Mapping[str, Any]

API_VERSION = f"{GROUP}/v1alpha1"
#: The length that the definition allows.
_LONGEST_NAME = 48


class Verdict(StrEnum):
    """What became of a field of the source."""

    LOST = "no counterpart"  # what it did is not done any more
    CHANGED = "changed"  # it was carried over, and somebody has to know how


@dataclass(frozen=True, slots=True)
class Finding:
    """A field of the source that is not in the ModelDeployment as it was, and what to do about it."""

    path: str
    verdict: Verdict
    message: str


def lost(path: str, message: str) -> Finding:
    """Return a finding about a field that has no counterpart."""
    return Finding(path, Verdict.LOST, message)


def changed(path: str, message: str) -> Finding:
    """Return a finding about a field that was carried over with another meaning."""
    return Finding(path, Verdict.CHANGED, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """One model of another system.

    Attributes:
        spec: `spec` of the ModelDeployment; without `model.storageUri` when the model's files are part of the source.
        metadata: model.yaml.
        files: files and folders of the source that belong to the package, by their names in it.
        runs_code: whether loading the model runs code from its file, which needs a pin or trust.
    """

    name: str
    spec: Body
    metadata: Body
    findings: Sequence[Finding]
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    runs_code: bool = False


def manifest(conversion: Conversion, model: Body) -> dict[str, Any]:
    """Return the ModelDeployment. `model` are fields of `spec.model` that come with the package."""
    metadata: dict[str, Any] = {"name": conversion.name}
    more = {
        "namespace": conversion.namespace,
        "labels": dict(conversion.labels),
        "annotations": dict(conversion.annotations),
    }
    metadata |= {name: value for name, value in more.items() if value}
    artifact = {**model, **conversion.spec.get("model", {})}
    others = {name: part for name, part in conversion.spec.items() if name != "model"}
    spec = ({"model": artifact} if artifact else {}) | others  # a server of one's own may bring its model
    return {"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": metadata, "spec": spec}


def valid_name(name: str, path: str) -> tuple[str, list[Finding]]:
    """Return a name that a ModelDeployment may have, and a finding where it is not the source's."""
    text = re.sub(r"[^-a-z0-9]+", "-", name.lower()).strip("-")
    text = text if text[:1].isalpha() else f"model-{text}".rstrip("-")
    text = text[:_LONGEST_NAME].rstrip("-")
    if text == name:
        return text, []
    return text, [changed(path, f"{name!r} is no name of a ModelDeployment; it is called {text}")]


def without_empty(value: Any) -> Any:
    """Return a JSON object without the fields that hold nothing."""
    if not isinstance(value, Mapping):
        return value
    kept = {name: without_empty(child) for name, child in value.items()}
    return {name: child for name, child in kept.items() if child is not None and child != {} and child != []}
