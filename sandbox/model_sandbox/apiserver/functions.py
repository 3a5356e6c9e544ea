"""The functions that Kubernetes adds to CEL, and two of our own for the rules of built-in types."""

from __future__ import annotations

import re
import sys
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_interface
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

from model_sandbox.apiserver.errors import Obj
from model_sandbox.apiserver.selectors import match_selector
from model_sandbox.quantity import parse_quantity


def _is_url(text: str) -> bool:
    parts = urlsplit(text)
    return bool(parts.scheme and (parts.netloc or parts.path.startswith("/")))


def _reads(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    """Whether a text is what `parse` takes."""

    def is_one(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return is_one


def _url(text: str) -> str:
    if not _is_url(text):
        raise ValueError(f"{text!r} is no URL")
    return text


def _cidr(text: str) -> str:
    if "/" not in text:
        raise ValueError(f"{text!r} is no CIDR")
    return str(ip_interface(text))


def _within(network: str, inner: str) -> bool:
    outer, other = ip_interface(network).network, ip_interface(inner).network
    return outer.version == other.version and outer.supernet_of(other)  # type: ignore[arg-type]


def _same_but_images(new: Obj, old: Obj) -> bool:
    """Whether two pod specs differ only in what may be changed in a running pod."""

    def frozen(spec: Obj) -> Obj:
        kept = {name: value for name, value in spec.items() if name not in ("activeDeadlineSeconds", "tolerations")}
        for group in ("containers", "initContainers"):
            kept[group] = [{**container, "image": ""} for container in spec.get(group) or []]
        return kept

    return frozen(new) == frozen(old)


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _duration(text: str) -> timedelta:
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PARTS.findall(text))
    return timedelta(seconds=-seconds if text.startswith("-") else seconds)


_PARTS = re.compile(r"(\d+\.?\d*|\.\d+)\s*(ns|us|µs|ms|s|m|h|d|w)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
# Texts of these formats are values of other types in rules. What is not of its format is refused before.
FORMATS: dict[str, Callable[[str], Any]] = {
    "date-time": _time,
    "date": _time,
    "duration": _duration,
    "byte": b64decode,
}
_NOT_GLOBAL = ("unspecified", "loopback", "link_local", "multicast")
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "isSorted": lambda items: all(left <= right for left, right in pairwise(items)),
    "sum": sum,
    "isURL": _is_url,
    "find": lambda text, pattern: found[0] if (found := re.search(pattern, text)) else "",
    "findAll": lambda text, pattern, limit=-1: [one[0] for one in re.finditer(pattern, text)][: limit % sys.maxsize],
    "isQuantity": _reads(parse_quantity),
    "quantity": lambda text: float(parse_quantity(text)),
    "isGreaterThan": lambda left, right: left > right,
    "isLessThan": lambda left, right: left < right,
    "compareTo": lambda left, right: (left > right) - (left < right),
    "sign": lambda quantity: (quantity > 0) - (quantity < 0),
    "isInteger": lambda quantity: float(quantity).is_integer(),
    "asInteger": int,
    "asApproximateFloat": float,
    "add": lambda left, right: left + right,
    "sub": lambda left, right: left - right,
    # Addresses, networks and URLs are texts to the library.
    "isIP": _reads(ip_address),
    "ip": lambda text: str(ip_interface(text).ip),
    "family": lambda ip: ip_address(ip).version,
    "isUnspecified": lambda ip: ip_address(ip).is_unspecified,
    "isLoopback": lambda ip: ip_address(ip).is_loopback,
    "isLinkLocalUnicast": lambda ip: ip_address(ip).is_link_local,
    "isGlobalUnicast": lambda ip: not any(getattr(ip_address(ip), f"is_{one}") for one in _NOT_GLOBAL),
    "isCIDR": _reads(_cidr),
    "cidr": _cidr,
    "containsIP": _within,
    "containsCIDR": _within,
    "masked": lambda cidr: str(ip_interface(cidr).network),
    "prefixLength": lambda cidr: ip_interface(cidr).network.prefixlen,
    "url": _url,
    "getScheme": lambda url: urlsplit(url).scheme,
    "getHost": lambda url: urlsplit(url).netloc.rpartition("@")[2],
    "getHostname": lambda url: urlsplit(url).hostname or "",
    "getPort": lambda url: str(urlsplit(url).port or ""),
    "getEscapedPath": lambda url: urlsplit(url).path,
    "getQuery": lambda url: parse_qs(urlsplit(url).query),
}
# For the rules of built-in types alone.
OWN: dict[str, Callable[..., Any]] = {"selects": match_selector, "sameButImages": _same_but_images}
# What the library has without a list to ask for. A function of an extension is known by its last name.
NATIVE = re.compile(
    "has|all|exists|exists_one|existsOne|map|filter|size|contains|startsWith|endsWith|matches|int|uint|double|string|"
    "bytes|timestamp|duration|type|dyn|get(FullYear|Month|Date|DayOf(Month|Week|Year)|Hours|Minutes|Seconds|Milliseconds)|"
    "of|none|ofNonZeroValue|hasValue|value|or|orValue"
)
