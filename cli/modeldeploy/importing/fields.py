"""Fields of a document, which remember whether an importer has read them. PURE.

What nobody has read has no counterpart: so no field of a source is dropped in silence.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

from modeldeploy.importing.values import Finding, changed, lost
from modeldeploy.requests import Refused

_T = TypeVar("_T")
_UNKNOWN = "this importer does not know the field; nothing of it is in the ModelDeployment"


class Fields:
    """One object of a document. Its methods raise Refused, with the path, for a value of another type."""

    def __init__(self, body: Mapping[str, Any], path: str = "") -> None:
        self.path = path
        self._body = body
        self._read: set[str] = set()
        self._children: dict[str, list[Fields]] = {}

    def __contains__(self, name: str) -> bool:
        return self._body.get(name) is not None

    def at(self, name: str) -> str:
        """Return the path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def names(self) -> list[str]:
        """Return the names of the fields that hold something."""
        return [name for name, value in self._body.items() if value is not None]

    def drop(self) -> None:
        """Take all fields for read, because a finding names the object as a whole."""
        self._read.update(self._body)

    def value(self, name: str) -> Any:
        """Return a field as it is, with all that is in it."""
        self._read.add(name)
        return self._body.get(name)

    def text(self, name: str, default: str = "") -> str:
        """Return a text."""
        return self._typed(name, str, "a text") or default

    def integer(self, name: str) -> int | None:
        """Return a whole number, which may be written as a text; None where there is none."""
        value = self.value(name)
        if isinstance(value, str) and value.lstrip("-").isdigit():
            return int(value)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise self._wrong(name, value, "a whole number")

    def number(self, name: str) -> float | None:
        """Return a number; None where there is none."""
        value = self.value(name)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise self._wrong(name, value, "a number")

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object as it is."""
        return dict(self._typed(name, dict, "an object") or {})

    def values(self, name: str) -> list[Any]:
        """Return a list as it is."""
        return list(self._typed(name, list, "a list") or [])

    def integers(self, name: str) -> list[int]:
        """Return a list of whole numbers."""
        found = self.values(name)
        if not all(isinstance(one, int) and not isinstance(one, bool) for one in found):
            raise self._wrong(name, found, "whole numbers")
        return found

    def child(self, name: str) -> "Fields":
        """Return an object whose own fields are to be read; an empty one where there is none."""
        if name not in self._children:
            value = self._body.get(name)
            if value is not None and not isinstance(value, Mapping):
                raise self._wrong(name, value, "an object")
            self._children[name] = [Fields(value or {}, self.at(name))]
        return self._children[name][0]

    def items(self, name: str) -> list["Fields"]:
        """Return a list of objects whose own fields are to be read."""
        if name not in self._children:
            value = self._body.get(name)
            if value is not None and not (isinstance(value, list) and all(isinstance(one, Mapping) for one in value)):
                raise self._wrong(name, value, "a list of objects")
            self._children[name] = [Fields(one, f"{self.at(name)}[{n}]") for n, one in enumerate(value or [])]
        return self._children[name]

    def unread(self) -> Iterator[str]:
        """Yield the paths of the fields that nobody has read."""
        for name, value in self._body.items():
            if name in self._children and name not in self._read:
                for child in self._children[name]:
                    yield from child.unread()
            elif name not in self._read and value is not None:
                yield self.at(name)

    def leftovers(self, advice: Mapping[str, str], harmless: Collection[str] = ()) -> Iterator[Finding]:
        """Yield a finding for each field that nobody has read.

        Args:
            advice: what to write instead, by path without the numbers of items.
            harmless: paths of fields whose effect is here too, or was none.
        """
        for path in self.unread():
            plain = "".join(part.split("]", 1)[-1] for part in path.split("["))
            message = advice.get(plain, _UNKNOWN)
            yield changed(path, message) if plain in harmless else lost(path, message)

    def _typed(self, name: str, type_: type[_T], expected: str) -> _T | None:
        value = self.value(name)
        if value is None or isinstance(value, type_):
            return value
        raise self._wrong(name, value, expected)

    def _wrong(self, name: str, value: Any, expected: str) -> Refused:
        return Refused(f"{self.at(name)}: expected {expected}, and it is {str(value)[:80]!r}")


def one_of(known: Mapping[str, _T], name: str, path: str, hint: str = "") -> _T:
    """Return the entry of a table. Raises Refused that lists what is known."""
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    meant = f"; did you mean {close[0]}?" if close else "." if hint else ""
    raise Refused(f"{path}: {name!r} cannot be imported; known are {', '.join(known)}{meant}{hint and ' '}{hint}")
