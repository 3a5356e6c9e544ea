"""The ports, for `__main__.py`. Imported before NumPy, so it imports little."""

from __future__ import annotations

import os
import socket
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from model_server.errors import SettingsInvalid
from model_server.settings import Settings

_OPTION = " (modeldeploy serve --port)"


def listen(settings: Settings, field: Literal["port", "shadow_port"] = "port") -> socket.socket:
    """Bind the port that a setting names, or take the open socket. Raises SettingsInvalid when it cannot be had."""
    descriptor = settings.listen_fd if field == "port" else settings.shadow_fd
    if descriptor:
        return _opened(descriptor, settings.variable("listen_fd" if field == "port" else "shadow_fd"))
    family, port = socket.AF_INET6 if ":" in settings.host else socket.AF_INET, getattr(settings, field)
    # `::` is every address of the machine, IPv4's too.
    is_dual = settings.host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((settings.host, port), family=family, backlog=2048, dualstack_ipv6=is_dual)
    except OSError as error:
        raise SettingsInvalid(
            f"cannot listen on {settings.host}:{port}: {error.strerror or error}",
            hint=f"Set {settings.variable(field)}{_OPTION if field == 'port' else ''} to a free port.",
        ) from None


def listen_comparison(settings: Settings) -> AbstractContextManager[socket.socket | None]:
    """Bind the port of the recent predictions, if there is to be one. Raises SettingsInvalid."""
    is_wanted = settings.shadow_port or settings.shadow_fd
    return listen(settings, "shadow_port") if is_wanted else nullcontext()


def _opened(descriptor: int, variable: str) -> socket.socket:
    """A socket that somebody else opened; what is closed later is a copy of it."""
    try:
        return socket.socket(fileno=os.dup(descriptor))
    except OSError as error:
        raise SettingsInvalid(f"{variable}: {descriptor} is no open socket: {error.strerror}") from None
