"""Where pods have their addresses: on this machine's loopback, or in network namespaces of their own.

`__main__.py` makes one for all nodes and the Service proxy of a process. Loopback needs no privilege, and its addresses
are refused in EndpointSlices by a real API server; namespaces need root, and work with any.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import os
import random
import shutil
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

NUMBERS = range(64)  # of networks on one machine
NEEDS = (
    "--network netns needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN), /dev/net/tun and the programs `ip` (package "
    "iproute2), `unshare` and `nsenter` (util-linux). Run it with sudo, or leave --network at loopback, which the "
    "sandbox's own API server allows"
)
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
_CHUNK = 64 * 1024
_CONNECT = 5.0  # seconds
Backend = tuple[str, int]


class NetworkError(Exception):
    """A network that cannot be made here; the message says what is missing."""


class Network:
    """Loopback: every pod has an address of 127.64.0.0/11, the Services those of the next such range."""

    host = "127.0.0.1"
    services = "127.96.0.0/11"

    def choose(self) -> str:
        """An address for a pod: random, since other sandboxes may run on this machine. Another pod may have it."""
        return f"127.{random.randrange(64, 96)}.{random.randrange(256)}.{random.randrange(2, 255)}"  # noqa: S311

    async def attach(self, address: str) -> None:
        """Make an address ready for its pod. Raises NetworkError."""

    async def detach(self, address: str) -> None:
        """Take it away again."""

    def enter(self, address: str) -> tuple[str, ...]:
        """What to put in front of a command that runs in the pod."""
        return ()

    def everywhere(self, address: str) -> str:
        """What stands for the bind address `0.0.0.0`: a pod must not take the port of all the others."""
        return address

    async def claim(self, address: str) -> bool:
        """Make a Service's address one that can be listened on here; False when it never will be."""
        return address.startswith("127.")

    async def reachable(self, url: str) -> str:
        """The URL under which pods reach an API server."""
        return url


class Namespaces(Network):
    """A network namespace for every pod, which hangs on this machine by a pair of interfaces.

    Pods reach each other, this machine and the Services; nothing is translated, so that nothing beyond answers them.
    The kernel itself cleans up, `kill -9` included: the TUN device that has this network's own addresses is there as
    long as it is held open, and a pod's interfaces are there as long as a process is in its namespace.
    """

    def __init__(self, number: int) -> None:
        self._device = f"mds{number:02}"
        self._subnet = ipaddress.ip_network(f"10.211.{number * 4}.0/22")
        self.host = str(self._subnet[1])
        self.services = f"10.212.{number * 4}.0/22"
        self._tun = -1
        self._holders: dict[str, asyncio.subprocess.Process] = {}
        self._relays: dict[str, asyncio.Server] = {}

    async def open(self) -> bool:
        """Make the device; False when another process has this number. Raises NetworkError."""
        try:
            self._tun = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(self._tun, _TUNSETIFF, struct.pack("16sH22x", self._device.encode(), _IFF_TUN | _IFF_NO_PI))
        except OSError as error:
            self.close()
            if isinstance(error, FileNotFoundError | PermissionError):
                raise NetworkError(f"{error}. {NEEDS}") from None
            return False
        await _ip([f"addr add {self.host}/32 dev {self._device}", f"link set {self._device} up"])
        return True

    def close(self) -> None:
        for relaying in self._relays.values():
            relaying.close()
        for holder in self._holders.values():
            _let_go(holder)
        if self._tun >= 0:
            os.close(self._tun)

    def choose(self) -> str:
        return str(self._subnet[random.randrange(2, self._subnet.num_addresses - 1)])  # noqa: S311

    async def attach(self, address: str) -> None:
        """Make the pod's namespace, held by a process that ends when this one does, and an interface in it."""
        link = f"{self._device}-{int(ipaddress.ip_address(address)) & 0xFFFF:04x}"
        holder = self._holders[address] = await asyncio.create_subprocess_exec(
            "unshare", "--net", "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        if holder.stdin is None or holder.stdout is None:
            raise NetworkError("unshare has no pipes")
        holder.stdin.write(b"\n")
        if not await holder.stdout.readline():  # which comes back from within the namespace
            raise NetworkError(f"unshare --net failed. {NEEDS}")
        add = [f"link add {link} type veth peer name eth0 netns {holder.pid}", f"link set {link} up"]
        await _ip([*add, f"route add {address}/32 dev {link} src {self.host}"])
        # Other pods are reached through this machine; no other interface is opened.
        forwarding = Path(f"/proc/sys/net/ipv4/conf/{link}/forwarding")
        await asyncio.to_thread(forwarding.write_text, "1\n")
        up = ["link set lo up", f"addr add {address}/32 dev eth0", "link set eth0 up"]
        await _ip([*up, f"route add default via {self.host} dev eth0 onlink"], self.enter(address))

    async def detach(self, address: str) -> None:
        if holder := self._holders.pop(address, None):
            _let_go(holder)
            await holder.wait()

    def enter(self, address: str) -> tuple[str, ...]:
        """`nsenter` becomes the command itself: the process keeps its id."""
        return (
            ("nsenter", f"--net=/proc/{self._holders[address].pid}/ns/net") if address in self._holders else ("false",)
        )

    def everywhere(self, address: str) -> str:
        return "0.0.0.0"  # noqa: S104

    async def claim(self, address: str) -> bool:
        """Have this machine answer for an address, as long as the device is there."""
        if not address.startswith("127."):
            await _ip([f"route replace local {address}/32 dev {self._device}"])
        return True

    async def reachable(self, url: str) -> str:
        """A plain HTTP server on this machine's loopback is relayed to; one with TLS must be reachable itself."""
        parts = urlsplit(url)
        backend = socket.gethostbyname(parts.hostname or ""), parts.port or 80
        if not ipaddress.ip_address(backend[0]).is_loopback:
            return url
        if parts.scheme != "http":
            raise NetworkError(
                f"pods in network namespaces cannot reach the API server at {url}, and its certificate is for that "
                "address alone: give a kubeconfig with an address of this machine that is not loopback"
            )
        if url not in self._relays:
            self._relays[url] = await asyncio.start_server(lambda up, down: relay(up, down, [backend]), self.host, 0)
        return parts._replace(netloc="{}:{}".format(*self._relays[url].sockets[0].getsockname())).geturl()


def _let_go(holder: asyncio.subprocess.Process) -> None:
    if holder.stdin is not None:
        holder.stdin.close()


async def _ip(lines: Sequence[str], before: Sequence[str] = ()) -> None:
    """Commands of `ip`, in a namespace if one is entered before."""
    process = await asyncio.create_subprocess_exec(
        *(*before, "ip", "-batch", "-"), stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, told = await process.communicate("\n".join(lines).encode())
    if process.returncode:
        raise NetworkError(f"ip {'; '.join(lines)}: {told.decode(errors='replace').strip()}. {NEEDS}")


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backends: Iterable[Backend]) -> None:
    """Carry a connection to the first of the backends that answers; refuse it as a cluster does if there is none."""
    with contextlib.closing(writer):
        for backend in backends:
            try:
                async with asyncio.timeout(_CONNECT):
                    up_reader, up_writer = await asyncio.open_connection(*backend)
            except OSError:  # TimeoutError is one
                continue
            with contextlib.closing(up_writer):
                await asyncio.gather(_copy(reader, up_writer), _copy(up_reader, writer))
            return
        writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction; its end is passed on as the end of that direction alone."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    # RuntimeError: uvloop's word for a connection that has ended meanwhile, as of a process that was killed.
    except (OSError, RuntimeError):
        writer.transport.abort()


@asynccontextmanager
async def namespaces() -> AsyncIterator[Network]:
    """A network of namespaces until the context or its process ends, however that is. Raises NetworkError."""
    if os.geteuid() or not all(map(shutil.which, ("ip", "unshare", "nsenter"))):
        raise NetworkError(NEEDS)
    for number in random.sample(NUMBERS, len(NUMBERS)):
        network = Namespaces(number)
        if await network.open():
            break
    else:
        raise NetworkError(f"all {len(NUMBERS)} networks are in use: end a sandbox")
    with contextlib.closing(network):
        yield network


LOOPBACK = Network()
NETWORKS: Mapping[str, Callable[[], AbstractAsyncContextManager[Network]]] = {
    "loopback": lambda: contextlib.nullcontext(LOOPBACK),
    "netns": namespaces,
}
