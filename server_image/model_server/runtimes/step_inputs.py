"""In which form a step of a package takes the rows of a call, by the annotation of its parameter; for `steps.py`.

Without one it gets the columns by name, as arrays; `pandas.DataFrame` asks for a table; `list[Applicant]` for rows, of
a class (a TypedDict, a dataclass, a Struct of msgspec, a model of pydantic) that then also says what a request has.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, Protocol, get_args, get_origin, get_type_hints, is_typeddict

import msgspec

from model_server.domain.features import Feature
from model_server.domain.model import InputAdapter
from model_server.domain.tensors import Inputs, values_of
from model_server.errors import LoadFailed, MetadataInvalid
from model_server.inputs.matrix import Matrix
from model_server.inputs.row_types import read_row_type
from model_server.inputs.untyped import Untyped
from model_server.runtimes.tables import as_table, as_table_of_objects, require_pandas


class Form(Protocol):
    """Turns a call's inputs into the argument of a step."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """The columns that the annotation names, () where it names none."""

    def argument(self, inputs: Inputs, adapter: InputAdapter) -> Any:
        """The argument. Raises ValueError for rows that the author's class refuses."""


class AsColumns:
    """Arrays by name, each of shape (rows,); where nothing is known of the inputs, the array that was sent."""

    features: tuple[Feature, ...] = ()

    def argument(self, inputs: Inputs, adapter: InputAdapter) -> Any:
        if isinstance(adapter, Untyped) and len(inputs) == 1:
            return next(iter(inputs.values()))
        if isinstance(adapter, Matrix):
            array = inputs[adapter.name]
            return {feature.name: array[:, place] for place, feature in enumerate(adapter.features)}
        return dict(inputs)


class AsTable(AsColumns):
    """A table of pandas."""

    def argument(self, inputs: Inputs, adapter: InputAdapter) -> Any:
        given = super().argument(inputs, adapter)
        if isinstance(given, Mapping):
            return as_table(given, {})
        return as_table_of_objects(given.tolist())


@dataclass(frozen=True, slots=True)
class AsRows:
    """A list of rows: dicts, or what `convert` makes of all of them. `defaults` may be absent in a row."""

    features: tuple[Feature, ...] = ()
    convert: Callable[[list[Any]], list[Any]] | None = None
    defaults: frozenset[str] = frozenset()

    def argument(self, inputs: Inputs, adapter: InputAdapter) -> Any:
        rows = self._rows(AsColumns().argument(inputs, adapter), adapter.features)
        return rows if self.convert is None else self.convert(rows)

    def _rows(self, given: Any, features: Sequence[Feature]) -> list[Any]:
        if not isinstance(given, Mapping):
            plain: list[Any] = given.tolist()
            return plain
        kinds = {feature.name: feature for feature in features}
        names = list(given)
        columns = [_plain(values_of(given[name]), kinds.get(name)) for name in names]
        if not self.defaults:
            return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        return [
            {
                name: value
                for name, value in zip(names, row, strict=True)
                if value is not None or name not in self.defaults
            }
            for row in zip(*columns, strict=True)
        ]


def form_of(function: Callable[..., Any], place: int, path: Path) -> Form:
    """The form that the annotation of a parameter asks for. Raises LoadFailed for one that is none."""
    try:
        parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    except (NameError, SyntaxError, AttributeError, TypeError) as error:
        raise LoadFailed(
            f"the annotations of transform in {path.name} cannot be read: {error}",
            hint="Import what they name outside of TYPE_CHECKING.",
        ) from None
    annotation: Any = parameters[min(place, len(parameters) - 1)].annotation
    if getattr(annotation, "__module__", "").partition(".")[0] == "pandas":
        require_pandas(f"has a {path.name} that takes a table")
        return AsTable()
    origin = annotation if annotation in (list, Sequence) else get_origin(annotation)
    if origin in (list, Sequence):
        return _rows_of(next(iter(get_args(annotation)), Any), path)
    if _has_fields(annotation):
        raise LoadFailed(
            f"transform in {path.name} takes one {annotation.__name__}, and is given all rows of a call",
            hint=f"Annotate it with list[{annotation.__name__}], and return one value a row.",
        )
    return AsColumns()


def _rows_of(row: Any, path: Path) -> Form:
    if not _has_fields(row):
        return AsRows()
    # A model of pydantic checks its fields by its own rules; importing pydantic is left to who has one.
    is_pydantic = hasattr(row, "model_json_schema")
    try:
        schema = row.model_json_schema() if is_pydantic else msgspec.json.schema(row)
        # Schemas sort the fields of some classes.
        read = read_row_type(schema, list(get_type_hints(row)) if not is_pydantic else list(row.model_fields))
    except Exception as error:
        raise LoadFailed(
            f"{row.__name__} in {path.name} cannot be read as a row: {error}",
            hint="Its fields are numbers, texts, true or false, dates, or Any.",
        ) from None
    return AsRows(read.features, _pydantic_rows(row) if is_pydantic else _msgspec_rows(row), read.defaults)


def check_against(form: Form, features: Sequence[Feature], path: Path) -> None:
    """Raise MetadataInvalid where model.yaml declares other columns than the author's class has."""
    declared, written = {one.name for one in features}, {one.name for one in form.features}
    if written and declared and declared != written:
        name = sorted(declared ^ written)[0]
        has, lacks = ("model.yaml", path.name) if name in declared else (path.name, "model.yaml")
        raise MetadataInvalid(
            f"{has} has the input {name!r}, and {lacks} has not",
            hint="Leave input_features out of model.yaml, or name the same columns.",
        )


def _has_fields(kind: Any) -> bool:
    return isinstance(kind, type) and (
        is_typeddict(kind) or is_dataclass(kind) or issubclass(kind, msgspec.Struct) or hasattr(kind, "model_fields")
    )


def _msgspec_rows(row: Any) -> Callable[[list[Any]], list[Any]]:
    # Now, as annotations that are texts are looked up in the module `pre`, which in a pool may soon be another's.
    msgspec.convert([], list[row])

    def convert(rows: list[Any]) -> list[Any]:
        try:
            made: list[Any] = msgspec.convert(rows, list[row])
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
        return made

    return convert


def _pydantic_rows(row: Any) -> Callable[[list[Any]], list[Any]]:
    def convert(rows: list[Any]) -> list[Any]:
        made = []
        for place, one in enumerate(rows):
            try:
                made.append(row.model_validate(one))
            except ValueError as error:
                first = error.errors()[0]  # type: ignore[attr-defined]
                where = ".".join(map(str, first["loc"]))
                raise ValueError(f"{where}: {first['msg']} (row {place})") from None
        return made

    return convert


def _plain(values: list[Any], feature: Feature | None) -> list[Any]:
    """A column's values as Python has them: None for what is missing, dates without a time of day."""
    if feature is not None and feature.nullable:
        values = [None if value != value else value for value in values]
    if feature is not None and feature.dtype == "any":
        # A column of numbers is one of floats, and a class may have whole numbers there.
        values = [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]
    if feature is not None and feature.dtype == "date":
        return [None if value is None else value.date() for value in values]
    return values
