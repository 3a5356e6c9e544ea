"""What all values of the API have in common: frozen structs, camelCase on the wire, changed by `replace`.

A struct whose fields differ from those of the definition in name alone is read as it is. Where the two differ in
shape, a struct `...Fields` beside the value mirrors the definition. Defaults stand in these structs and nowhere else:
`tests/contract/operator/test_fields.py` holds both, names and defaults, against `crds/modeldeployments.yaml`.
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
#: A number as it was written: hashes and environment variables tell 2 from 2.0.
Number = int | float


class Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of values that are read from the API server: fields are named in camelCase there."""


if TYPE_CHECKING:
    # Whoever makes or reads values needs to know no more.
    from dataclasses import replace as replace

    Seconds: TypeAlias = timedelta
    Duration: TypeAlias = timedelta
else:

    class Seconds(timedelta):
        """A duration that the wire has as a whole number of seconds."""

        def __repr__(self) -> str:
            """Hashes of steps and metrics are made of it: they are those of a timedelta."""
            return repr(timedelta(days=self.days, seconds=self.seconds, microseconds=self.microseconds))

    class Duration(Seconds):
        """A duration that the wire has as a text such as `1h30m`."""

    def replace(value: Any, /, **changes: Any) -> Any:
        """Return a struct or dataclass with other fields; mypy checks them as those of `dataclasses.replace`.

        Raises:
            TypeError: it has no field of this name.
        """
        if isinstance(value, msgspec.Struct):
            return msgspec.structs.replace(value, **changes)
        return dataclasses.replace(value, **changes)


def read(raw: Any, type_: type[T], path: str) -> T:
    """Give a type to JSON of the API server.

    Args:
        path: where `raw` stands, for the error, as in `spec.server`.

    Raises:
        InvalidSpec: a field is missing or not understood; the message names it.
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
    wanted = "a whole number of seconds" if type_ is Seconds else "a duration such as 30s, 5m or 1h30m"
    raise ValueError(f"{raw!r} is not understood; write {wanted}")


def _with_known_words(message: str, type_: Any, place: str) -> str:
    """Add to an error about a word which words are known."""
    if not message.startswith("Invalid enum value"):
        return message
    for name in place.replace("[", ".[").strip(".").split("."):
        if not name.startswith("["):
            type_ = fields_of(struct_in(type_)).get(name)
    (enum,) = (one for one in _types_in(type_) if isinstance(one, type) and issubclass(one, StrEnum))
    return f"{message.removeprefix('Invalid enum value ')} is not known; write one of {', '.join(enum)}"


def unknown_fields(raw: Any, struct: type[msgspec.Struct], path: str) -> Iterator[str]:
    """Yield the paths of fields that a struct does not have, as in `spec.server.surprise`.

    What is passed through as it is (pod templates, JSON of other kinds) has no unknown fields.
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
    """Return by their names on the wire the structs that a struct's fields hold, None for those that hold none."""
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
