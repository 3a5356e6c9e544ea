"""Free TCP ports for the processes of a stand; the benchmarks use them as well."""

import contextlib
import secrets
import socket


def free_port() -> int:
    """Return a free port of the loopback interface, below the ephemeral ports, so that no client takes it meanwhile."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
