"""The certificate authorities that downloads trust besides the system's: `MODEL_SERVER_CA_FILE`, for every scheme."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path

from model_server.errors import SettingsInvalid

CA_FILE = "MODEL_SERVER_CA_FILE"


@cache
def ssl_context(ca_file: str) -> ssl.SSLContext:
    """What trusts the system's authorities, and those in a PEM file where one is named. Raises SettingsInvalid."""
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise _unreadable(CA_FILE, ca_file, error) from None
    return context


def certificates(setting: str, ca_file: str) -> bytes:
    """The content of a PEM file that a setting names. Raises SettingsInvalid."""
    try:
        return Path(ca_file).read_bytes()
    except OSError as error:
        raise _unreadable(setting, ca_file, error) from None


def _unreadable(setting: str, ca_file: str, error: OSError) -> SettingsInvalid:
    return SettingsInvalid(
        f"the certificates {ca_file} cannot be read: {error.strerror or error}",
        hint=f"{setting} names a PEM file of the pod: mount it, or leave the name out.",
    )
