"""Documents to typed values, with every mistake named by its field; `settings.py` and `package/metadata.py` use it.

msgspec converts, in a tenth of the time and memory that pydantic's import takes, and stops at the first mistake. A
document that does not fit is therefore looked through once more, field by field, for all that is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct, structs

T = TypeVar("T", bound=Struct)

#: msgspec's words for types, and those of people who write YAML and environment variables.
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "null": "nothing",
    "array": "a list",
    "object": "fields",
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """Where a document is wrong (`input_features[0].dtype`, "" for the whole of it), and how."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class ValidationErrors(ValueError):
    """A document does not fit its type; `mistakes` are in the order of the type's fields."""

    def __init__(self, mistakes: list[FieldError]) -> None:
        super().__init__("; ".join(dict.fromkeys(map(str, mistakes))))
        self.mistakes = mistakes


def validate(document: Mapping[str, Any], kind: type[T], *, strict: bool = True) -> T:
    """The document as a value. Without `strict` text is read as the number or boolean that is wanted.

    Raises ValidationErrors.
    """
    try:
        return msgspec.convert(document, kind, strict=strict, dec_hook=_convert)
    except msgspec.ValidationError as error:
        first = _mistake(error, kind, "")
        raise ValidationErrors(list(_mistakes(document, kind, "", strict=strict)) or [first]) from None


def _convert(kind: type, value: Any) -> Any:
    """What msgspec has no rule for."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"expected a {kind.__name__.lower()}, got {value!r}")


def _mistakes(value: Any, kind: Any, where: str, *, strict: bool) -> Iterator[FieldError]:
    parts = list(_parts(value, kind, where))
    found = [mistake for part in parts for mistake in _mistakes(*part, strict=strict)]
    if isinstance(kind, type) and issubclass(kind, Struct) and isinstance(value, Mapping):
        found += _strange_and_missing(value, kind, where)
    if not found:
        # Its parts are right: what is left are this value's own rules.
        try:
            msgspec.convert(value, kind, strict=strict, dec_hook=_convert)
        except msgspec.ValidationError as error:
            found = [_mistake(error, kind, where)]
    yield from found


def _parts(value: Any, kind: Any, where: str) -> Iterator[tuple[Any, Any, str]]:
    """What a value is made of: (part, its type, where it is)."""
    kind = _bare(kind)
    if isinstance(kind, type) and issubclass(kind, Struct) and isinstance(value, Mapping):
        for field in structs.fields(kind):
            if field.name in value:
                yield value[field.name], field.type, f"{where}.{field.name}" if where else field.name
    elif get_origin(kind) is tuple and get_args(kind)[1:] == (...,) and isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield item, get_args(kind)[0], f"{where}[{index}]"
    elif get_origin(kind) is dict and isinstance(value, Mapping):
        for key, item in value.items():
            yield item, get_args(kind)[1], f"{where}.{key}"


def _strange_and_missing(value: Mapping[Any, Any], kind: type[Struct], where: str) -> Iterator[FieldError]:
    fields = structs.fields(kind)
    names = [field.name for field in fields]
    inside = f"{where}." if where else ""
    for name in value:
        if name not in names:
            yield FieldError(f"{inside}{name}", f"is not a field; known are {', '.join(names)}")
    for field in fields:
        if field.name not in value and field.default is NODEFAULT and field.default_factory is NODEFAULT:
            yield FieldError(f"{inside}{field.name}", "is missing")


def _mistake(error: msgspec.ValidationError, kind: Any, where: str) -> FieldError:
    message, _, place = str(error).partition(" - at `$")
    kind = _bare(kind)
    if get_origin(kind) is Literal:
        message = f"expected one of {', '.join(map(repr, get_args(kind)))}"
    message = re.sub("^E(?=xpected )", "e", message)
    message = re.sub("`([a-z |]+)`", lambda types: " or ".join(map(_in_words, types[1].split(" | "))), message)
    return FieldError(where + place.rstrip("`"), message)


def _in_words(kind: str) -> str:
    return _WORDS.get(kind, kind)


def _bare(kind: Any) -> Any:
    """The type without its bounds."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind
