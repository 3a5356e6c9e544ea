"""The list of a pool's models: read from a file, which is read again when it changes; `front.py` asks it."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import msgspec
import orjson
import yaml
from msgspec import Meta, Struct

from model_server.errors import SettingsInvalid, UnknownModel, first_line
from model_server.validation import ValidationErrors, validate

MOST_MODELS = 10_000
#: Names that a hint lists where no name is close.
_SHOWN = 5


class ListedModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One model of the list, in the words of `spec.model` of a ModelDeployment; `concurrency` is its own."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=128)]
    storage_uri: Annotated[str, Meta(min_length=1)]
    format: str = "auto"
    version: str = ""
    sha256: Annotated[str, Meta(pattern=r"^([0-9a-fA-F]{64})?$")] = ""
    trusted: bool = False
    #: Requests that may wait for it, 0 for as many as the pool allows each.
    concurrency: Annotated[int, Meta(ge=0, le=10_000)] = 0


class _Document(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    models: tuple[dict[str, Any], ...]


def parse_models(text: bytes) -> dict[str, ListedModel]:
    """The models of a list by name. Raises SettingsInvalid that names the entry at fault."""
    try:
        document = _loaded(text)
        listed = validate(document, _Document).models if isinstance(document, dict) else None
        if listed is None:
            raise SettingsInvalid("the list of models has no field `models`")
        models = [_model(one, index) for index, one in enumerate(listed)]
    except ValidationErrors as invalid:
        raise SettingsInvalid(f"the list of models is wrong: {invalid}") from None
    if len(models) > MOST_MODELS:
        raise SettingsInvalid(f"the list has {len(models)} models, and a pool may have {MOST_MODELS}")
    by_name = {one.name: one for one in models}
    if len(by_name) < len(models):
        names = [one.name for one in models]
        twice = next(name for name in names if names.count(name) > 1)
        raise SettingsInvalid(f"the list has {twice!r} more than once", hint="Each name stands for one package.")
    return by_name


def _loaded(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsInvalid(f"the list of models is neither JSON nor YAML: {first_line(error)}") from None


def _model(document: dict[str, Any], index: int) -> ListedModel:
    try:
        # Not by `validate`, which explains with Python's names of the fields.
        return msgspec.convert(document, ListedModel)
    except msgspec.ValidationError as error:
        name = document.get("name", "")
        raise SettingsInvalid(f"models[{index}] ({name}) of the list is wrong: {first_line(error)}") from None


class Catalog:
    """The file, and what was last read from it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: object = None
        self.models: dict[str, ListedModel] = {}
        #: Why the newest file was not taken over; "" while it was.
        self.fault = ""
        if not self.refresh():
            raise SettingsInvalid(self.fault, hint="Write `models:` with a `name` and a `storageUri` for each.")

    def refresh(self) -> bool:
        """Read the file if it has changed; whether `models` are now others. A wrong file leaves them as they are."""
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return False
            text = self._path.read_bytes()
        except OSError as error:
            self.fault = f"the list of models cannot be read: {self._path}: {error.strerror}"
            return False
        self._seen = seen
        try:
            models = parse_models(text)
        except SettingsInvalid as error:
            self.fault = error.message
            return False
        self.fault = ""
        is_first, changed = not self.models, models != self.models
        self.models = models
        return changed or is_first

    def unknown(self, name: str) -> UnknownModel:
        """The error for a model that is not listed, with names that are close."""
        close = get_close_matches(name, self.models, n=3, cutoff=0.6)
        if close:
            hint = f"Did you mean {' or '.join(map(repr, close))}?"
        elif self.models:
            some = sorted(self.models)[:_SHOWN]
            hint = f"This pool has {len(self.models)} models, such as {', '.join(map(repr, some))}."
        else:
            hint = "The list of this pool is empty."
        return UnknownModel(f"model {name!r} is not in this pool", hint=hint)
