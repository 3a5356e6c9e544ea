"""Storage URIs: why servers cannot look at them, and what those of a registry name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

#: Why the servers cannot tell whether the object at the storage URI has changed, by the reason that they report.
SOURCE_PROBLEMS: Mapping[str, str] = {
    "StorageUnavailable": "the storage or the registry does not answer; the model that is loaded goes on serving",
    "ArtifactAccessDenied": "the storage or the registry refuses the credentials; the model that is loaded goes on"
    " serving",
    "ArtifactNotFound": "nothing is at the storage URI any more, or the registry has no such version or alias; the"
    " model that is loaded goes on serving",
    "SourceUnreadable": "the servers cannot look at the storage URI; the log of a pod says why, and the model that is"
    " loaded goes on serving",
}
OTHER_PROBLEM = "SourceUnreadable"

RegistryKind = Literal["mlflow", "kubeflow"]


class _Pattern(NamedTuple):
    """How URIs of a registry name a model, and what its versions are called.

    The server puts the version in front of the fingerprint of a URI that may name another one later.
    """

    uri: re.Pattern[str]
    version: re.Pattern[str]
    fingerprint: re.Pattern[str]


_NUMBER, _NAME = r"[1-9][0-9]{0,17}", r"[A-Za-z0-9][-._+A-Za-z0-9]{0,127}"
_REGISTRIES: Mapping[RegistryKind, _Pattern] = {
    "mlflow": _Pattern(
        re.compile(rf"models:/(?P<name>[^/:@]+)(?:@[-_a-zA-Z0-9]+|/(?P<version>{_NUMBER}))"),
        re.compile(_NUMBER),
        re.compile(rf"({_NUMBER})-.*"),
    ),
    "kubeflow": _Pattern(
        re.compile(rf"model-registry://(?P<name>[^/@?#]+)(?:/(?P<version>{_NAME}))?"),
        re.compile(_NAME),
        re.compile(rf"({_NAME})-[0-9a-f]{{16}}"),
    ),
}


class RegisteredModel(NamedTuple):
    """What a URI of a registry names; `version` is empty where it may name another one later."""

    name: str
    version: str
    registry: RegistryKind = "mlflow"

    def may_be(self, version: str) -> bool:
        """Whether a text, which may be one that a pod reported, is what the registry calls a version."""
        return _REGISTRIES[self.registry].version.fullmatch(version) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionTags:
    """Tags that a version of a registered model has to have. The last one is written last."""

    registry: RegistryKind = "mlflow"
    name: str
    version: str
    tags: Mapping[str, str]


def registered_model(uri: str) -> RegisteredModel | None:
    """Return the registered model that a storage URI names; None for another URI."""
    for kind, pattern in _REGISTRIES.items():
        if match := pattern.uri.fullmatch(uri):
            return RegisteredModel(match["name"], match["version"] or "", kind)
    return None


def moving_model(uri: str) -> RegisteredModel | None:
    """Return the registered model of a URI that may name another version later: an alias, or no version."""
    registered = registered_model(uri)
    return None if registered is None or registered.version else registered


def declared_version(uri: str, fingerprint: str) -> str:
    """Return the version that a URI of a registry names, by itself or with this fingerprint; empty if neither says."""
    registered = registered_model(uri)
    if registered is None or registered.version:
        return registered.version if registered else ""
    match = _REGISTRIES[registered.registry].fingerprint.fullmatch(fingerprint)
    return match[1] if match else ""
