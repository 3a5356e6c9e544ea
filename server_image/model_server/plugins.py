"""Formats and sources by entry points: the built-in ones (pyproject.toml), and those of other packages.

A package adds its own with `[project.entry-points."modeldeploy.formats"]` or `"modeldeploy.sources"`; docs/server.md
shows both. https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from model_server.errors import DependencyMissing, SettingsInvalid

#: Each names a `model_server.package.formats.Format`.
FORMATS = "modeldeploy.formats"
#: Each is a scheme and names a module with the functions of `model_server.storage.Source`.
SOURCES = "modeldeploy.sources"


@cache
def registered(group: str) -> Mapping[str, EntryPoint]:
    """What is registered in a group, by name; imports nothing. Raises SettingsInvalid for a name given twice."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=group)):
        first = found.setdefault(entry.name, entry)
        if first.value != entry.value:
            raise SettingsInvalid(
                f"two installed packages register {entry.name!r} in {group}: {first.value} and {entry.value}",
                hint="Uninstall one of them.",
            )
    return found


def load(entry: EntryPoint) -> Any:
    """Import what an entry point names. Raises DependencyMissing."""
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise DependencyMissing(
            f"{entry.name!r} of {entry.group} is registered as {entry.value}, which cannot be imported: {error}",
            hint="Install the package that registers it again, in a version that fits.",
        ) from None
