"""The functions and types that rules may name; the table is `data/cel.functions`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from model_sandbox.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    UINT,
    Type,
    list_of,
    map_of,
    parse_types,
    type_of,
)

_GROUPS = {
    "$C": ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"),
    "$S": ("int", "uint", "double", "duration"),
}
_OWN = ("net.IP", "net.CIDR", *(f"kubernetes.{one}" for one in ("URL", "Quantity", "Semver", "NamedFormat")))


@dataclass(frozen=True, slots=True)
class Overload:
    """One signature. `parameters` begins with the receiver's type for a method."""

    parameters: tuple[Type, ...]
    result: Type
    is_method: bool

    @property
    def type_parameters(self) -> list[Type]:
        """Its type parameters, each once."""
        found = [one for part in (*self.parameters, self.result) for one in _parameters(part)]
        return list(dict.fromkeys(found))


def _parameters(one: Type) -> Iterator[Type]:
    if one.kind == "param":
        yield one
    for inner in one.parameters:
        yield from _parameters(inner)


@cache
def functions() -> dict[str, list[Overload]]:
    """All functions by name; operators are called `_+_` and the like."""
    found: dict[str, list[Overload]] = {}
    for line in (files("model_sandbox") / "data" / "cel.functions").read_text().splitlines():
        names, _, signatures = line.partition(" = ")
        for name in names.split() if signatures else ():
            found[name] = [one for text in signatures.split("; ") for one in _overloads(text)]
    return found


def _overloads(text: str) -> Iterator[Overload]:
    group = next((group for group in _GROUPS if group in text), "")
    if group:
        for name in _GROUPS[group]:
            yield from _overloads(text.replace(group, name))
        return
    method, dot, rest = text.partition(".(")
    receiver, arguments = (method, rest) if dot else ("", text[1:])
    depth = 1
    for end, letter in enumerate(arguments):  # noqa: B007
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if not depth:
            break
    parameters = parse_types(f"{receiver}, {arguments[:end]}" if receiver else arguments[:end])
    yield Overload(tuple(parameters), parse_types(arguments[end + 1 :])[0], bool(receiver))


# Types as values, as in `type(self) == int`.
TYPE_NAMES: dict[str, Type] = {
    **{str(one): type_of(one) for one in (BOOL, BYTES, DOUBLE, INT, STRING, UINT)},
    "list": type_of(list_of(Type("param", "A"))),
    "map": type_of(map_of(Type("param", "A"), Type("param", "B"))),
    "null_type": type_of(NULL),
    "type": type_of(Type("type", "type")),
    "optional_type": type_of(Type("opaque", "optional_type", (Type("param", "V"),))),
    "google.protobuf.Duration": type_of(DURATION),
    "google.protobuf.Timestamp": type_of(TIMESTAMP),
    **{name: type_of(parse_types(name)[0]) for name in _OWN},
}
