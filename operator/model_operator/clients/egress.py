"""Which addresses the operator connects to for a user: providers of metrics, gates, notifications, retraining hooks.

A ModelDeployment names URLs that the operator requests from its own place in the network. Addresses that only the
operator's host, its node or the cloud's control plane should reach are refused, on the address that is really connected
to, after the name was resolved: a name that points to one of them is refused as well (server-side request forgery,
https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html).
"""

import fnmatch
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp

from model_operator.errors import ProviderError

#: The longest that a request for a user may take, whatever its timeout says.
LONGEST = timedelta(seconds=30)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Metadata services that are neither link-local nor loopback (AWS over IPv6, Alibaba, Oracle).
_METADATA = tuple(
    map(
        ipaddress.ip_network,
        ("fd00:ec2::254/128", "fd20:ce::254/128", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32"),
    )
)
#: Prefixes of IPv6 addresses whose last 32 bits are an IPv4 address that they lead to.
_EMBEDDING = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/96", "::ffff:0:0:0/96", "::/96")))


class RefusedAddress(OSError):
    """The operator does not connect to an address for a user; the message says where that is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPolicy:
    """What may be requested for a user.

    Attributes:
        hosts: patterns of host names such as `*.monitoring.svc`; none means every host.
        allowed: networks that may be reached although they are loopback, link-local or a metadata service.
        refused: further addresses, those of the API server.
    """

    hosts: Sequence[str] = ()
    allowed: Sequence[Network] = ()
    refused: Sequence[Address] = ()

    def check_host(self, host: str) -> None:
        """Raise `ProviderError` for a host that no pattern names."""
        if self.hosts and not any(fnmatch.fnmatchcase(host.lower(), pattern.lower()) for pattern in self.hosts):
            raise ProviderError(
                f"the operator may not request {host}: allowed hosts are {', '.join(self.hosts)} (egress.hosts of the"
                " chart, which the administrator of the cluster sets)"
            )

    def check_address(self, text: str) -> None:
        """Raise `RefusedAddress` for an address that is not for users to reach."""
        address = _plain(ipaddress.ip_address(text.partition("%")[0]))
        if any(address in network for network in self.allowed if network.version == address.version):
            return
        is_internal = (
            address.is_loopback
            or address.is_link_local
            or address.is_unspecified
            or address.is_multicast
            or address in self.refused
            or any(address in network for network in _METADATA if network.version == address.version)
        )
        if is_internal:
            raise RefusedAddress(
                "the address is not for users to reach (loopback, link-local, metadata service or API server)"
            )

    def connector(self) -> aiohttp.TCPConnector:
        """Return a connector that connects to no refused address."""

        def open_socket(info: tuple[Any, ...]) -> socket.socket:
            family, kind, protocol, _, address = info
            self.check_address(str(address[0]))
            return socket.socket(family=family, type=kind, proto=protocol)

        # A limit here would be one for all teams: those who ask take turns.
        return aiohttp.TCPConnector(socket_factory=open_socket, limit=0)


def _plain(address: Address) -> Address:
    """Return the IPv4 address in a mapped, translated, 6to4 or NAT64 IPv6 address, which leads to the same host."""
    if isinstance(address, ipaddress.IPv4Address) or address.is_loopback or address.is_unspecified:
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and any(address in network for network in _EMBEDDING):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address
