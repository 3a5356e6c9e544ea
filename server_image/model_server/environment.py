"""Settings from variables of the environment with a prefix in common: of a server, of a pool and of a meter."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TypeVar

from msgspec import Struct, structs

from model_server.errors import SettingsInvalid
from model_server.validation import ValidationErrors, validate

T = TypeVar("T", bound=Struct)

# A Service named `model-server` makes the kubelet inject these into every pod of its namespace.
_SERVICE_LINK = re.compile(r"^(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?)$")


def variables(environ: Mapping[str, str], prefix: str) -> dict[str, str]:
    """The variables with a prefix, by their names without it; an empty value counts as absent."""
    given = {name.removeprefix(prefix): value for name, value in environ.items() if name.startswith(prefix)}
    return {name: value for name, value in given.items() if value != "" and not _SERVICE_LINK.match(name)}


def converted(given: Mapping[str, str], kind: type[T], prefix: str, lists: Collection[str] = ()) -> T:
    """The settings of a kind; `lists` are those of several values, separated by commas.

    Raises SettingsInvalid that names every variable at fault.
    """
    document: dict[str, object] = {name.lower(): value for name, value in given.items()}
    for name in given.keys() & set(lists):
        document[name.lower()] = [part.strip() for part in given[name].split(",") if part.strip()]
    try:
        return validate(document, kind, strict=False)
    except ValidationErrors as invalid:
        faults = [f"{prefix}{mistake.where.upper()}: {mistake.message}" for mistake in invalid.mistakes]
        raise SettingsInvalid("; ".join(faults), hint="docs/server.md lists the settings.") from None


def refuse(settings: Struct, names: Collection[str], prefix: str, *, why: str, hint: str) -> None:
    """Raise SettingsInvalid for the first of these settings that has another value than its default."""
    defaults = {field.name: field.default for field in structs.fields(settings)}
    for name in names:
        if getattr(settings, name.lower()) != defaults[name.lower()]:
            raise SettingsInvalid(f"{prefix}{name} is set, {why}", hint=hint)
