"""The ports, for `__main__.py`. Imported before NumPy, so it imports little."""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from model_server.errors import SettingsInvalid
from model_server.settings import Settings


def listen(settings: Settings, field: Literal["port", "shadow_port"] = "port") -> socket.socket:
    """Bind the port that a setting names. Raises SettingsInvalid when it cannot be had."""
    family, port = socket.AF_INET6 if ":" in settings.host else socket.AF_INET, getattr(settings, field)
    # `::` is every address of the machine, IPv4's too.
    is_dual = settings.host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((settings.host, port), family=family, backlog=2048, dualstack_ipv6=is_dual)
    except OSError as error:
        raise SettingsInvalid(
            f"cannot listen on {settings.host}:{port}: {error.strerror or error}",
            hint=f"Set {settings.variable(field)} to a free port.",
        ) from None


def listen_comparison(settings: Settings) -> AbstractContextManager[socket.socket | None]:
    """Bind the port of the recent predictions, if there is to be one. Raises SettingsInvalid."""
    return listen(settings, "shadow_port") if settings.shadow_port else nullcontext()
