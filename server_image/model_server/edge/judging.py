"""Whether a new package may take the place of the one that serves: plain limits on one replay. Pure.

The operator's tests say how sure one may be, and a person decides what they leave open. Here nobody is asked: each
limit is compared with what was counted, and the message has the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, convert

#: Seconds of a call below which nobody calls a model slow, whatever the ratio.
LEAST_SLOWDOWN = 0.001


class Limits(Struct, frozen=True, kw_only=True):
    """What a new package may do otherwise.

    Attributes:
        min_agreement: share of requests that both have to answer alike.
        max_failures: share of requests, answered by the old one, that the new one may not answer.
        max_latency_ratio: times as long that half of the answers may take.
        tolerance: distance up to which two numbers are alike.
    """

    min_agreement: float
    max_failures: float
    max_latency_ratio: float
    tolerance: float


class Times(Struct, frozen=True, kw_only=True):
    """Seconds of a call."""

    median: float = 0.0


class Fault(Struct, frozen=True, kw_only=True):
    """Requests that were not answered, by the feature or the reason."""

    feature: str
    count: int


class Replayed(Struct, frozen=True, kw_only=True):
    """What a server says of a replay (docs/wire.md); the fields that are judged."""

    requests: int
    agreed: int
    refused: int = 0
    faults: tuple[Fault, ...] = ()
    timed: int = 0
    slower: int = 0
    stable: Times = Times()
    canary: Times = Times()


class Verdict(Struct, frozen=True, kw_only=True):
    """Whether the new package takes over, and why."""

    is_accepted: bool
    message: str


def read_replay(document: Mapping[str, Any]) -> Replayed:
    """The counts of a server's answer."""
    return convert(document, Replayed)


def judge(replayed: Replayed, limits: Limits) -> Verdict:
    """Compare what the new package answered with the limits."""
    if not replayed.requests:
        return Verdict(is_accepted=False, message="it answered no request in time")
    faults = [
        fault
        for fault in (_failures(replayed, limits), _agreement(replayed, limits), _latency(replayed, limits))
        if fault
    ]
    if faults:
        return Verdict(is_accepted=False, message="; ".join(faults))
    return Verdict(is_accepted=True, message=f"{replayed.agreed} of {replayed.requests} requests are answered alike")


def _failures(replayed: Replayed, limits: Limits) -> str:
    if replayed.refused <= limits.max_failures * replayed.requests:
        return ""
    named = ", ".join(f"{fault.feature} ({fault.count})" for fault in replayed.faults)
    return (
        f"{replayed.refused} of {replayed.requests} requests that the old package answers fail: {named};"
        f" {limits.max_failures:.0%} allowed"
    )


def _agreement(replayed: Replayed, limits: Limits) -> str:
    answered = replayed.requests - replayed.refused
    if not answered or replayed.agreed >= limits.min_agreement * answered:
        return ""
    return (
        f"{replayed.agreed} of {answered} requests are answered alike ({replayed.agreed / answered:.1%}), at least"
        f" {limits.min_agreement:.1%} required"
    )


def _latency(replayed: Replayed, limits: Limits) -> str:
    old, new = replayed.stable.median, replayed.canary.median
    if replayed.slower * 2 <= replayed.timed or new - old < LEAST_SLOWDOWN:
        return ""
    return (
        f"{replayed.slower} of {replayed.timed} answers take more than {limits.max_latency_ratio:g} times as long:"
        f" {new * 1000:.3g} ms in the median instead of {old * 1000:.3g} ms"
    )
