"""The proxy that the environment names for a URL, read as kubectl does (golang.org/x/net/http/httpproxy)."""

import ipaddress
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def proxy_of(url: str, environment: Mapping[str, str]) -> str | None:
    """Return the proxy for a URL from HTTPS_PROXY or HTTP_PROXY, in capital or small letters; None for none.

    The own machine is never reached by a proxy. NO_PROXY is a list of names, domains (`example.com` has its
    subdomains, `.example.com` has these alone), addresses, networks (`10.96.0.0/12`), each with an optional port,
    or `*` for all.
    """
    parts = urlsplit(url)
    host, address = parts.hostname or "", _address(parts.hostname or "")
    proxy = _variable(environment, f"{parts.scheme}_proxy")
    if not proxy or host == "localhost" or (address is not None and address.is_loopback):
        return None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    entries = (entry.strip().lower() for entry in _variable(environment, "no_proxy").split(","))
    if any(_matches(entry, host, address, port) for entry in entries if entry):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name.upper()) or environment.get(name, "")


def _matches(entry: str, host: str, address: Address | None, port: int) -> bool:
    if entry == "*":
        return True
    if address is not None and "/" in entry:
        return _is_within(address, entry)
    name, colon, wanted_port = entry.rpartition(":")
    if colon and wanted_port.isdigit() and (name.startswith("[") or ":" not in name):
        if int(wanted_port) != port:
            return False
        entry = name
    if address is not None:
        return _address(entry.strip("[]")) == address
    return any(_suffixes(entry, host))


def _suffixes(entry: str, host: str) -> Iterable[bool]:
    domain = entry.removeprefix("*")
    yield not domain.startswith(".") and host == domain
    yield host.endswith(domain if domain.startswith(".") else f".{domain}")


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_within(address: Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
