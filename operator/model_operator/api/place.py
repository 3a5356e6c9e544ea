"""The place of a value in a resource, for messages; and how deep a resource may be nested."""

from __future__ import annotations

from typing import Any

from model_operator.errors import InvalidSpec

#: Levels of a spec; a PodSpec has about a dozen.
MOST_LEVELS = 100


class Place:
    """A path such as `spec.server.env[0]`, which is written when a message needs it.

    A name in a spec may have a million characters, and a million values below it: to write the path of each takes
    minutes.
    """

    __slots__ = ("_parent", "_part")

    def __init__(self, part: str | int, parent: Place | None = None) -> None:
        self._part, self._parent = part, parent

    def at(self, part: str | int) -> Place:
        """Return the place of a field or of an entry."""
        return Place(part, self)

    def __str__(self) -> str:
        parts, place = list[str](), self
        while place._parent is not None:
            parts.append(f"[{place._part}]" if isinstance(place._part, int) else f".{place._part}")
            place = place._parent
        return "".join([str(place._part), *reversed(parts)])


def check_levels(raw: Any, path: str) -> None:
    """Check how deep JSON is nested, whatever its fields are.

    Raises:
        InvalidSpec: too deep. The encoder takes 254 levels: its error would name no field, and tell users of a bug.
    """
    todo = [(raw, Place(path), 1)]
    while todo:
        value, place, level = todo.pop()
        if level > MOST_LEVELS:
            raise InvalidSpec(f"{place} is nested more than {MOST_LEVELS} levels deep; no field of a pod is")
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        todo += [(one, place.at(part), level + 1) for part, one in entries if isinstance(one, dict | list)]
