"""The ports and their certificate, for `__main__.py` and `server.py`. Imported before NumPy, so it imports little."""

from __future__ import annotations

import socket
import ssl
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal, TypedDict

from model_server.errors import SettingsInvalid
from model_server.settings import Settings


class TlsFiles(TypedDict, total=False):
    """uvicorn's names for the files of a certificate."""

    ssl_certfile: str
    ssl_keyfile: str


def listen(settings: Settings, field: Literal["port", "shadow_port"] = "port") -> socket.socket:
    """Bind the port that a setting names. Raises SettingsInvalid when it cannot be had."""
    family, port = socket.AF_INET6 if ":" in settings.host else socket.AF_INET, getattr(settings, field)
    try:
        return socket.create_server((settings.host, port), family=family, backlog=2048)
    except OSError as error:
        raise SettingsInvalid(
            f"cannot listen on {settings.host}:{port}: {error.strerror or error}",
            hint=f"Set {settings.variable(field)} to a free port.",
        ) from None


def listen_shadow(settings: Settings) -> AbstractContextManager[socket.socket | None]:
    """Bind the port of the recent predictions, if there is to be one. Raises SettingsInvalid."""
    return listen(settings, "shadow_port") if settings.shadow_port else nullcontext()


def tls_files(folder: Path | None) -> TlsFiles:
    """uvicorn's options for a Secret of type kubernetes.io/tls. Raises SettingsInvalid for a file that is absent."""
    if folder is None:
        return {}
    certificate, key = folder / "tls.crt", folder / "tls.key"
    for file in (certificate, key):
        if not file.is_file():
            raise SettingsInvalid(f"{file} is missing", hint="Mount a Secret of type kubernetes.io/tls there.")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise SettingsInvalid(
            f"{certificate} cannot be used: {error}", hint="tls.crt and tls.key must be a PEM certificate and its key."
        ) from None
    return {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
