"""Base of all values of the API: frozen structs, camelCase on the wire, changed by `replace`.

A struct whose fields differ from those of the definition in name alone is decoded directly. Where the two differ in
shape, a struct `...Fields` beside the value mirrors the definition. Defaults are defined in these structs only:
`tests/contract/operator/test_fields.py` compares names and defaults with `crds/modeldeployments.yaml`.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, get_args

import msgspec

from model_operator.api.times import parse_duration
from model_operator.errors import InvalidSpec

T = TypeVar("T")
#: A number as the user wrote it: hashes and environment variables distinguish 2 from 2.0.
Number = int | float


class Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of values that are read from the API server, where the names of fields are in camelCase."""


if TYPE_CHECKING:
    # Callers that create or read values need no other names.
    from dataclasses import replace as replace

    Seconds: TypeAlias = timedelta
    Duration: TypeAlias = timedelta
else:

    class Seconds(timedelta):
        """A duration that is a whole number of seconds on the wire."""

        def __repr__(self) -> str:
            """Hashes of steps and metrics are made of it: they are those of a timedelta."""
            return repr(timedelta(days=self.days, seconds=self.seconds, microseconds=self.microseconds))

    class Duration(Seconds):
        """A duration that is a string such as `1h30m` on the wire."""

    def replace(value: Any, /, **changes: Any) -> Any:
        """Return a copy of a struct or dataclass with changed fields, which mypy checks as for `dataclasses.replace`.

        Raises:
            TypeError: it has no field of this name.
        """
        if isinstance(value, msgspec.Struct):
            return msgspec.structs.replace(value, **changes)
        return dataclasses.replace(value, **changes)


def repr_without(value: msgspec.Struct, *later: str) -> str:
    """Return the repr of a struct without those fields that are at their (empty) default.

    Hashes in the status are made of it: a field that came later must not change those of running rollouts.
    """
    fields = ((name, getattr(value, name)) for name in value.__struct_fields__)
    shown = (f"{name}={field!r}" for name, field in fields if field or name not in later)
    return f"{type(value).__name__}({', '.join(shown)})"


def read(raw: Any, type_: type[T], path: str) -> T:
    """Convert JSON of the API server to a value.

    Args:
        path: path of `raw` in the resource, for the error, such as `spec.server`.

    Raises:
        InvalidSpec: a field is missing or invalid; the message names it.
    """
    try:
        return msgspec.convert(raw, type_, dec_hook=_read_span)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `")
        inner = place.removeprefix("$").removesuffix("`")
        raise InvalidSpec(f"{path}{inner}: {_with_known_words(message, type_, inner)}") from error


def _read_span(type_: type[Any], raw: Any) -> Any:
    if type_ is Seconds and isinstance(raw, int) and not isinstance(raw, bool):
        return Seconds(seconds=raw)
    if type_ is Duration and isinstance(raw, str):
        try:
            return Duration(seconds=parse_duration(raw).total_seconds())
        except InvalidSpec as error:
            raise ValueError(str(error)) from error
    form = "a whole number of seconds" if type_ is Seconds else "a duration such as 30s, 5m or 1h30m"
    raise ValueError(f"{raw!r} is invalid; write {form}")


def _with_known_words(message: str, type_: Any, place: str) -> str:
    """Add the known values to an error about an unknown enum value."""
    if not message.startswith("Invalid enum value"):
        return message
    for name in place.replace("[", ".[").strip(".").split("."):
        if not name.startswith("["):
            type_ = fields_of(struct_in(type_)).get(name)
    (enum,) = (one for one in _types_in(type_) if isinstance(one, type) and issubclass(one, StrEnum))
    return f"{message.removeprefix('Invalid enum value ')} is unknown; write one of {', '.join(enum)}"


def unknown_fields(raw: Any, struct: type[msgspec.Struct], path: str) -> Iterator[str]:
    """Yield the paths of fields that a struct does not have, as in `spec.server.surprise`.

    Fields that are passed through (pod templates, JSON of other kinds) have no unknown fields.
    """
    if isinstance(raw, list):
        for index, item in enumerate(raw):
            yield from unknown_fields(item, struct, f"{path}[{index}]")
    elif isinstance(raw, Mapping):
        structs = _structs_of(struct)
        for name, value in raw.items():
            if name not in structs:
                yield f"{path}.{name}"
            elif (inner := structs[name]) is not None:
                yield from unknown_fields(value, inner, f"{path}.{name}")


@cache
def _structs_of(struct: type[msgspec.Struct]) -> Mapping[str, type[msgspec.Struct] | None]:
    """Return the structs that a struct's fields hold, by their names on the wire; None for fields without a struct."""
    return {name: struct_in(type_) for name, type_ in fields_of(struct).items()}


def fields_of(struct: type[msgspec.Struct] | None) -> Mapping[str, Any]:
    """Return the types of a struct's fields by their names on the wire."""
    return {field.encode_name: field.type for field in msgspec.structs.fields(struct)} if struct else {}


def struct_in(type_: Any) -> type[msgspec.Struct] | None:
    """Return the struct that a field's type holds: itself, or one that is optional or in a list."""
    found = (one for one in _types_in(type_) if isinstance(one, type) and issubclass(one, msgspec.Struct))
    return next(found, None)


def _types_in(type_: Any) -> Iterator[Any]:
    yield type_
    for inner in get_args(type_):
        yield from _types_in(inner)
