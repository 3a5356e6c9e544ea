"""Credentials of a broker: files of a mounted Secret, read at each connection, so that new ones need no restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model_server.messaging.broker import BrokerRefused

_MOST_BYTES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a broker is shown; empty is absent. Nothing of it is in a log or in a message."""

    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    mechanism: str = ""

    def mechanism_of(self, known: Sequence[str]) -> str:
        """The SASL mechanism, by default the first of those that a broker's client knows. Raises BrokerRefused."""
        if self.mechanism and self.mechanism not in known:
            raise BrokerRefused(
                f"mechanism of the credentials is {self.mechanism!r}", hint=f"Write one of {', '.join(known)}."
            )
        return self.mechanism or known[0]


def read_credentials(folder: Path | None) -> Credentials:
    """The files `username`, `password`, `token` and `mechanism` of a folder. Raises BrokerRefused for an unreadable."""
    if folder is None:
        return Credentials()
    return Credentials(**{name: _read(folder / name) for name in ("username", "password", "token", "mechanism")})


def _read(file: Path) -> str:
    try:
        with file.open() as content:
            return content.read(_MOST_BYTES).strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise BrokerRefused(f"{file} cannot be read: {error.__class__.__name__}") from None
