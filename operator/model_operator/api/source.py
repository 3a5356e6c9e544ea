"""Storage URIs: why servers cannot look at them, and what those of a registry name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

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

_REGISTERED = re.compile(r"models:/(?P<name>[^/:@]+)(?:@[-_a-zA-Z0-9]+|/(?P<version>[1-9][0-9]{0,17}))")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
#: The server puts the number of the version in front of the fingerprint of an alias.
_FINGERPRINT = re.compile(r"([1-9][0-9]{0,17})-")


class RegisteredModel(NamedTuple):
    """What a `models:/` URI names; `version` is empty for an alias."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionTags:
    """Tags that a version of a registered model has to have. The last one is written last."""

    name: str
    version: str
    tags: Mapping[str, str]


def registered_model(uri: str) -> RegisteredModel | None:
    """Return the registered model that a storage URI names; None for another URI."""
    match = _REGISTERED.fullmatch(uri)
    return RegisteredModel(match["name"], match["version"] or "") if match else None


def is_version(text: str) -> bool:
    """Whether a text, which may be one that a pod reported, is the number of a version."""
    return _NUMBER.fullmatch(text) is not None


def is_alias(uri: str) -> bool:
    """Whether a storage URI names an alias, which may name another version later."""
    registered = registered_model(uri)
    return registered is not None and not registered.version


def declared_version(uri: str, fingerprint: str) -> str:
    """Return the version of a `models:/` URI, or of the alias with this fingerprint; empty if neither says it."""
    registered = registered_model(uri)
    if registered is None or registered.version:
        return registered.version if registered else ""
    match = _FINGERPRINT.match(fingerprint)
    return match[1] if match else ""
