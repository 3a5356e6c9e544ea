"""What the registries of models have in common for `registries.py`; each has a file of its own."""

from collections.abc import Awaitable, Mapping
from typing import Any, NamedTuple, Protocol

from model_operator.api.source import VersionTags


class Answer(NamedTuple):
    """An answer of a registry: 200, or 404 where it may be that an object is not there."""

    status: int
    body: bytes


class Ask(Protocol):
    """Sends one request below the address of the registry."""

    def __call__(self, method: str, path: str, **more: Any) -> Awaitable[Answer]:
        """Raises ProviderError for any other status."""


class Dialect(Protocol):
    """How one kind of registry is asked."""

    #: For messages: its name, and what a refused user lacks.
    name: str
    permission: str
    #: The key of the Secret that has the address, and those of the credentials in words.
    address: str
    credentials: str

    def authorization(self, held: Mapping[str, str]) -> Mapping[str, str]:
        """Return the header for the credentials in a Secret, {} without any."""

    async def write(self, ask: Ask, wanted: VersionTags) -> None:
        """Set the tags that the version does not have yet; a version that was deleted needs none.

        Raises ProviderError, or msgspec.DecodeError for an answer of something else.
        """
