"""Reads the termination messages of pods (docs/wire.md), whose image may be anybody's.

What is not in the form of the server is no message of it: nothing of another type, size or depth goes further.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

#: A reason as Kubernetes has them in conditions and Events.
_Reason = Annotated[str, Meta(pattern="^[A-Za-z][A-Za-z0-9]*$", max_length=128)]
#: The most metrics of one evaluation; the server knows fewer.
_MOST_METRICS = 64
#: The most groups of one column in an evaluation.
_MOST_GROUPS = 32


class Failure(msgspec.Struct, frozen=True):
    """Why a server could not serve."""

    reason: _Reason
    message: str
    hint: str = ""
    permanent: bool = False


#: Numbers by name; one that is no number (NaN) is null.
_Values = Annotated[Mapping[Annotated[str, Meta(max_length=128)], float | None], Meta(max_length=_MOST_METRICS)]
_Groups = Annotated[Mapping[Annotated[str, Meta(max_length=128)], _Values], Meta(max_length=_MOST_GROUPS)]


class Evaluated(msgspec.Struct, frozen=True):
    """Result of an evaluation; `groups` has values by column and group, `notes` are sentences about small groups."""

    metrics: _Values
    rows: Annotated[int, Meta(ge=0, le=2**53)] = 0
    groups: Annotated[Mapping[Annotated[str, Meta(max_length=128)], _Groups], Meta(max_length=4)] = {}
    notes: Annotated[tuple[Annotated[str, Meta(max_length=512)], ...], Meta(max_length=4)] = ()


#: The most rows that a pod may claim.
_Count = Annotated[int, Meta(ge=0, le=2**53)]


class BatchTotals(msgspec.Struct, frozen=True, rename="camel"):
    """Rows of a whole batch, which the pod that finished the last shard reports."""

    rows: _Count
    failed_rows: _Count


class ShardResult(msgspec.Struct, frozen=True, rename="camel"):
    """What became of the rows of one shard, and the model that predicted them."""

    rows: _Count
    failed_rows: _Count
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    version: Annotated[str, Meta(max_length=128)] = ""
    batch: BatchTotals | None = None


class _LogLine(msgspec.Struct, frozen=True):
    message: str


_FAILURE = msgspec.json.Decoder(Failure)
_EVALUATED = msgspec.json.Decoder(Evaluated)
_SHARD = msgspec.json.Decoder(ShardResult)
_LOG_LINE = msgspec.json.Decoder(_LogLine)
#: What decoding a text that is not in the form raises.
_OTHER_FORM = (msgspec.DecodeError, UnicodeError, RecursionError)


def read_failure(text: str) -> Failure | None:
    """Return the failure that a termination message reports; None if it is none of a server."""
    try:
        return _FAILURE.decode(text)
    except _OTHER_FORM:
        return None


def read_evaluation(text: str) -> Evaluated | None:
    """Return the result that a termination message reports; None if it is none of an evaluation."""
    try:
        return _EVALUATED.decode(text)
    except _OTHER_FORM:
        return None


def read_shard(text: str) -> ShardResult | None:
    """Return the result that a termination message reports; None if it is none of a shard."""
    try:
        return _SHARD.decode(text)
    except _OTHER_FORM:
        return None


def last_line(text: str) -> str:
    """Return the last line of a log, or the message in it if it is JSON.

    The kubelet reports the end of the log if there is no termination message.
    """
    last = text.strip().rpartition("\n")[2]
    try:
        return _LOG_LINE.decode(last).message
    except _OTHER_FORM:
        return last
