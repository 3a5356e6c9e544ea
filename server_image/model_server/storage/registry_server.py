"""What the REST APIs of registries have in common; for `mlflow_api.py` and `model_registry_api.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar
from urllib.parse import urlsplit

import msgspec

from model_server.errors import ArtifactAccessDenied, SettingsInvalid, StorageUnavailable
from model_server.storage.redaction import redacted
from model_server.storage.web import Answer

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """How errors name a registry: what its URIs begin with, its setting, and what to write."""

    scheme: str
    server: str
    setting: str
    example: str
    api: str
    served_by: str
    refused_hint: str


@dataclass(frozen=True, slots=True)
class RegistryServer:
    """A registry, and the headers that say who asks."""

    words: ClassVar[Words]

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def address(cls, environ: Mapping[str, str]) -> str:
        """The registry's address, from its setting. Raises SettingsInvalid."""
        words = cls.words
        url = environ.get(words.setting, "").strip().rstrip("/")
        if not url:
            raise SettingsInvalid(
                f"{words.scheme} needs the address of the {words.server}, and {words.setting} is not set",
                hint=f"Set spec.model.registry.url, or {words.setting} in the Secret of secretName.",
            )
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc or parts.query:
            raise SettingsInvalid(
                f"{words.setting} is {redacted(url)!r}, which is no plain web address", hint=f"Write {words.example}."
            )
        return url

    def decoded(self, answer: Answer, kind: type[T]) -> T:
        """A document of the API. Raises StorageUnavailable."""
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self.strange(f"no answer of {self.words.api}") from None

    def strange(self, what: str) -> StorageUnavailable:
        """The error for an answer that this registry does not give."""
        return StorageUnavailable(
            f"{redacted(self.url)} gave {what}",
            hint=f"Check {self.words.setting}: it is the address of {self.words.served_by}.",
        )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say whose credentials were refused."""
        try:
            yield
        except ArtifactAccessDenied:
            what = "the credentials" if self.headers else "a request without credentials"
            raise ArtifactAccessDenied(
                f"the registry {redacted(self.url)} refused {what}", hint=self.words.refused_hint
            ) from None


def bearer(environ: Mapping[str, str], setting: str) -> dict[str, str]:
    """The header for the token of a setting; none where it is empty. Raises SettingsInvalid."""
    token = environ.get(setting, "").strip()
    if not (token.isascii() and token.isprintable()):
        raise SettingsInvalid(f"{setting} has characters that no token has", hint="Write the Secret again.")
    return {"authorization": f"Bearer {token}"} if token else {}
