"""The certificate of a mounted Secret of type kubernetes.io/tls; `server.py` and the gRPC port serve with it.

A renewed Secret is taken up without a restart: connections that are open keep the certificate they began with, new ones
get the new one.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Protocol

from model_server.errors import SettingsInvalid

log = logging.getLogger(__name__)


class Tls(Protocol):
    """What the ports are served with."""

    @property
    def context(self) -> ssl.SSLContext | None:
        """For servers that speak TLS; None for plain text."""

    @property
    def pair(self) -> tuple[bytes, bytes] | None:
        """The key and the certificate in PEM, as they are now; None for plain text."""

    def refresh(self) -> None:
        """About a second has passed."""


class PlainText:
    """No certificate: connections are not encrypted."""

    context = None
    pair = None

    def refresh(self) -> None:
        """Do nothing: there is no certificate."""


class Certificate:
    """`tls.crt` and `tls.key` of a folder, and the context that new connections get."""

    def __init__(self, folder: Path) -> None:
        """Raise SettingsInvalid when a file is absent or the two do not belong together."""
        self._certificate, self._key = folder / "tls.crt", folder / "tls.key"
        for file in (self._certificate, self._key):
            if not file.is_file():
                raise SettingsInvalid(f"{file} is missing", hint="Mount a Secret of type kubernetes.io/tls there.")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            self.pair = self._read()
            self._load()
        except (ssl.SSLError, OSError) as error:
            raise SettingsInvalid(
                f"{self._certificate} cannot be used: {error}",
                hint="tls.crt and tls.key must be a PEM certificate and its key.",
            ) from None

    def refresh(self) -> None:
        """Take up a renewed certificate. One that cannot be used is logged and changes nothing."""
        try:
            found = self._read()
            if found == self.pair:
                return
            self._load()
        except (ssl.SSLError, OSError) as error:
            log.error("the renewed certificate cannot be used; the former one stays: %s", error)
            return
        self.pair = found
        log.info("certificate renewed")

    def _read(self) -> tuple[bytes, bytes]:
        return self._key.read_bytes(), self._certificate.read_bytes()

    def _load(self) -> None:
        # Tried first on a context that nobody uses: a key that does not fit leaves its certificate behind.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key)
        self.context.load_cert_chain(self._certificate, self._key)
