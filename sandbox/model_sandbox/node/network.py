"""Where pods have their addresses: on this machine's loopback, or in network namespaces of their own.

`__main__.py` makes one for all nodes and the Service proxy of a process. Loopback needs no privilege, and its addresses
are refused in EndpointSlices by a real API server; namespaces need root, and work with any.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

#: Begins the name of every interface and namespace; the number of its network follows.
PREFIX = "mds"
NUMBERS = range(64)
NEEDS = (
    "--network netns needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN) and the program `ip` (package iproute2). "
    "Run it with sudo, or leave --network at loopback, which the sandbox's own API server allows"
)
_CHUNK = 64 * 1024
# Waits until its owner is gone, however that came about, and removes the network unless another has taken it over.
_KEEPER = """
import os, signal, socket, subprocess, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
bridge = sys.argv[1]
sys.stdin.read()
try:
    owner = socket.socket(socket.AF_UNIX)
    owner.bind("\\0model-sandbox-" + bridge)
    spaces = [name for name in os.listdir("/run/netns") if name.startswith(bridge + "-")]
except OSError:
    spaces = []
else:
    for words in [["netns", "del", name] for name in spaces] + [["link", "del", bridge]]:
        subprocess.run(["ip", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""


class NetworkError(Exception):
    """A network that cannot be made here; the message says what is missing."""


class Network(Protocol):
    """Addresses for pods and Services."""

    host: str
    services: str

    def choose(self) -> str:
        """An address for a pod, which another pod may have already."""

    async def attach(self, address: str) -> None:
        """Make an address ready for its pod."""

    async def detach(self, address: str) -> None:
        """Take it away again."""

    def enter(self, address: str) -> tuple[str, ...]:
        """What to put in front of a command that runs in the pod."""

    def everywhere(self, address: str) -> str:
        """What stands for the bind address `0.0.0.0` in a pod."""

    async def claim(self, address: str) -> bool:
        """Make a Service's address one that can be listened on here; False when it never will be."""

    async def reachable(self, url: str) -> str:
        """The URL under which pods reach an API server."""


class Loopback:
    """Every pod has an address of 127.64.0.0/11, the Services those of the next such range."""

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.services = "127.96.0.0/11"

    def choose(self) -> str:
        """Random, since other sandboxes may run on this machine."""
        return f"127.{random.randrange(64, 96)}.{random.randrange(256)}.{random.randrange(2, 255)}"  # noqa: S311

    async def attach(self, address: str) -> None:
        """Loopback has all addresses already."""

    async def detach(self, address: str) -> None:
        """And keeps them."""

    def enter(self, address: str) -> tuple[str, ...]:
        """Pods run like any process."""
        return ()

    def everywhere(self, address: str) -> str:
        """A pod must not take the port of all the others."""
        return address

    async def claim(self, address: str) -> bool:
        """Addresses elsewhere would need privileges."""
        return address.startswith("127.")

    async def reachable(self, url: str) -> str:
        """Pods share the node's network."""
        return url


class Namespaces:
    """A bridge of this machine, and for every pod a network namespace that hangs on it.

    Pods reach each other, this machine and the Services; nothing is translated, so that nothing beyond answers them.
    """

    def __init__(self, number: int) -> None:
        self._bridge = _bridge(number)
        self._ip = shutil.which("ip") or "ip"
        self._subnet = ipaddress.ip_network(f"10.211.{number * 4}.0/22")
        self.host = str(self._subnet[1])
        self.services = f"10.212.{number * 4}.0/22"
        self._relays: dict[str, asyncio.Server] = {}

    async def open(self) -> None:
        """Make the bridge. Raises NetworkError."""
        lines = [
            f"link add {self._bridge} type bridge",
            f"addr add {self.host}/{self._subnet.prefixlen} dev {self._bridge}",
            f"link set {self._bridge} up",
        ]
        await _ip("-batch", "-", given=lines)
        # Pods of another bridge of ours are reached through this machine; no other interface is opened.
        forwarding = Path(f"/proc/sys/net/ipv4/conf/{self._bridge}/forwarding")
        await asyncio.to_thread(forwarding.write_text, "1\n")

    def close(self) -> None:
        """Take everything away again, whatever is left of it."""
        for relay in self._relays.values():
            relay.close()
        _sweep(self._bridge)

    def choose(self) -> str:
        """Any but the bridge's own."""
        return str(self._subnet[random.randrange(2, self._subnet.num_addresses - 1)])  # noqa: S311

    async def attach(self, address: str) -> None:
        """Make the pod's namespace, and an interface in it."""
        space, link = self._names(address)
        await _ip("netns", "add", space)
        await _ip(
            *("-batch", "-"),
            given=[
                f"link add {link} type veth peer name eth0 netns {space}",
                f"link set {link} master {self._bridge}",
                f"link set {link} up",
            ],
        )
        await _ip(
            *("-n", space, "-batch", "-"),
            given=[
                "link set lo up",
                f"addr add {address}/{self._subnet.prefixlen} dev eth0",
                "link set eth0 up",
                f"route add default via {self.host}",
            ],
        )

    async def detach(self, address: str) -> None:
        """Remove the namespace, and with it both ends of its interface."""
        with contextlib.suppress(NetworkError):
            await _ip("netns", "del", self._names(address)[0])

    def enter(self, address: str) -> tuple[str, ...]:
        """`ip` becomes the command itself: the process keeps its id."""
        return (self._ip, "netns", "exec", self._names(address)[0])

    def everywhere(self, address: str) -> str:
        """A pod has all of its namespace to itself."""
        return "0.0.0.0"  # noqa: S104

    async def claim(self, address: str) -> bool:
        """Have this machine answer for an address, as long as the bridge is there."""
        if not address.startswith("127."):
            await _ip("route", "replace", "local", f"{address}/32", "dev", self._bridge)
        return True

    async def reachable(self, url: str) -> str:
        """A plain HTTP server on this machine's loopback is relayed to; one with TLS must be reachable itself."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        if not ipaddress.ip_address(socket.gethostbyname(host)).is_loopback:
            return url
        if parts.scheme != "http":
            raise NetworkError(
                f"pods in network namespaces cannot reach the API server at {url}, and its certificate is for that "
                "address alone: give a kubeconfig with an address of this machine that is not loopback"
            )
        if url not in self._relays:
            self._relays[url] = await asyncio.start_server(_relay_to(host, port), self.host, 0)
        here = self._relays[url].sockets[0].getsockname()[1]
        return parts._replace(netloc=f"{self.host}:{here}").geturl()

    def _names(self, address: str) -> tuple[str, str]:
        """The pod's namespace, and its interface on this machine (at most 15 characters)."""
        digits = f"{int(ipaddress.ip_address(address)):08x}"
        return f"{self._bridge}-{digits}", f"{self._bridge}-{digits[-4:]}"


def _relay_to(host: str, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            up_reader, up_writer = await asyncio.open_connection(host, port)
            with contextlib.closing(up_writer):
                await asyncio.gather(copy(reader, up_writer), copy(up_reader, writer))

    return serve


async def _ip(*words: str, given: Sequence[str] = ()) -> None:
    stdin = subprocess.PIPE if given else subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        "ip", *words, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, told = await process.communicate("\n".join(given).encode() if given else None)
    if process.returncode:
        raise NetworkError(f"ip {' '.join(words)}: {told.decode(errors='replace').strip()}. {NEEDS}")


def _bridge(number: int) -> str:
    return f"{PREFIX}{number:02}"


def _ownership(bridge: str) -> socket.socket | None:
    """A name that the kernel takes back when its process ends; None while another process has it."""
    owner = socket.socket(socket.AF_UNIX)
    try:
        owner.bind(f"\0model-sandbox-{bridge}")
    except OSError:
        owner.close()
        return None
    return owner


def _sweep(bridge: str) -> None:
    """Remove a bridge and the namespaces that hang on it, as far as they are there."""
    spaces = Path("/run/netns")
    for space in spaces.glob(f"{bridge}-*") if spaces.is_dir() else ():
        subprocess.run(["ip", "netns", "del", space.name], capture_output=True, check=False)
    if Path(f"/sys/class/net/{bridge}").exists():
        subprocess.run(["ip", "link", "del", bridge], capture_output=True, check=False)


def _take() -> tuple[int, socket.socket]:
    """A free number, and its ownership. What a killed sandbox left is removed, if its keeper was killed too."""
    taken: tuple[int, socket.socket] | None = None
    for number in random.sample(NUMBERS, len(NUMBERS)):
        owner = _ownership(_bridge(number))
        if owner is None:
            continue
        _sweep(_bridge(number))
        if taken is None:
            taken = number, owner
        else:
            owner.close()
    if taken is None:
        raise NetworkError(f"all {len(NUMBERS)} networks are in use: end a sandbox")
    return taken


@asynccontextmanager
async def namespaces() -> AsyncIterator[Network]:
    """A network of namespaces until the context or its process ends, however that is. Raises NetworkError."""
    if os.geteuid() or not shutil.which("ip"):
        raise NetworkError(NEEDS)
    number, owner = _take()
    with owner:
        keeper = subprocess.Popen(  # noqa: ASYNC220 - at once, once
            [sys.executable, "-S", "-E", "-c", _KEEPER, _bridge(number)], stdin=subprocess.PIPE, start_new_session=True
        )
        network = Namespaces(number)
        try:
            await network.open()
            yield network
        finally:
            network.close()
            keeper.communicate(timeout=10)


@asynccontextmanager
async def loopback() -> AsyncIterator[Network]:
    """The network that needs nothing."""
    yield LOOPBACK


LOOPBACK = Loopback()
NETWORKS = {"loopback": loopback, "netns": namespaces}
