"""A port that nobody listens on."""

import contextlib
import secrets
import socket


def free_port() -> int:
    """Return a free port of the loopback interface, below those that the system gives to clients."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
