"""What a fitted scikit-learn estimator knows of the table it was trained with, wherever in it that is kept.

A pipeline, a search or an ensemble holds other estimators, and each knows something of the columns that it was fitted
on: an encoder its categories, LightGBM the categories of pandas, an imputer that nothing may be missing. The walk
follows each column of the table from part to part. `estimators.py` uses it. Pure; imports no library of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from model_server.domain.features import Scalar
from model_server.domain.model import ColumnKind, TrainedColumn
from model_server.runtimes.tables import Categories, lightgbm_categories, xgboost_categories

#: Where estimators keep the fitted ones that see the same columns as they do.
_FITTED = ("best_estimator_", "estimator_", "estimators_", "regressor_", "classifier_", "calibrated_classifiers_")
#: Libraries whose estimators take numbers, unless they say otherwise.
_NUMERIC = frozenset({"sklearn", "lightgbm", "xgboost", "catboost", "imblearn"})
#: They change each column on its own, and leave what is missing missing.
_SCALERS = frozenset(
    {"StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "PowerTransformer", "QuantileTransformer"}
)
_IMPUTERS = frozenset({"SimpleImputer", "KNNImputer", "IterativeImputer"})
#: Their estimators are trees, and know nothing of columns.
_FORESTS = ("sklearn.ensemble._forest", "sklearn.ensemble._gb", "sklearn.ensemble._weight_boosting")


class _Column(NamedTuple):
    """A column of the training table on its way through the parts: its place there; whether an imputer filled it."""

    place: int
    is_filled: bool = False


#: The columns that a part sees, None for one that is no column of the table any more.
_Seen: TypeAlias = Sequence[_Column | None]


@dataclass(slots=True)
class Inspection:
    """What was found. `columns` are by their places; `needs_table`: columns are picked by name."""

    columns: dict[int, TrainedColumn] = field(default_factory=dict)
    needs_table: bool = False

    @property
    def categories(self) -> Categories:
        """The pandas categories, by the columns' places."""
        return {place: column.categories for place, column in self.columns.items() if column.categories is not None}


@dataclass(slots=True)
class _Findings:
    kinds: set[ColumnKind] = field(default_factory=set)
    categories: tuple[Scalar, ...] | None = None
    sample: Scalar | None = None
    takes_null: bool = True


def inspect(estimator: Any, count: int | None, *, has_names: bool) -> Inspection:
    """Follow the columns of the training table, of which there were `count`, through a fitted estimator.

    Raises LoadFailed where a booster's categories cannot be told.
    """
    if count is None:
        return Inspection(needs_table=selects_columns(estimator))
    walk = _Walk()
    walk.visit(estimator, [_Column(place) for place in range(count)])
    found = Inspection(needs_table=selects_columns(estimator))
    for place in range(count):
        column = walk.found.get(place)
        if column is None:  # dropped on the way
            found.columns[place] = TrainedColumn("any" if has_names else "number", takes_null=True)
        else:
            found.columns[place] = _settled(column, has_names=has_names)
    return found


def _settled(column: _Findings, *, has_names: bool) -> TrainedColumn:
    kind: ColumnKind = "number"
    if column.kinds == {"string"}:
        kind = "string"
    elif "any" in column.kinds or "string" in column.kinds:
        # Own code that was fitted on an array gets an array, of numbers.
        kind = "any" if has_names or "string" in column.kinds else "number"
    return TrainedColumn(kind, column.categories, takes_null=column.takes_null, sample=column.sample)


def selects_columns(estimator: Any) -> bool:
    """True when it, or something it is made of, picks columns by name, and so needs a table with names."""
    chosen = [columns for _, _, columns in getattr(estimator, "transformers_", ())]
    return any(map(_are_names, chosen)) or any(selects_columns(part) for part in _parts(estimator))


def takes_texts(estimator: Any) -> bool:
    """True when each row is one text: what sees the rows first makes words of them."""
    return any(hasattr(part, "build_analyzer") for part in _first_parts(estimator))


def text_sample(estimator: Any) -> str | None:
    """A word that the model knows."""
    found = (next(iter(getattr(part, "vocabulary_", ()) or ()), None) for part in _first_parts(estimator))
    return next((word for word in found if isinstance(word, str)), None)


def has_blanks_replaced(estimator: Any) -> bool:
    """True when its names are LightGBM's, which writes underscores for blanks."""
    return any(_library(part) == "lightgbm" for part in _first_parts(estimator))


def runs_own_code(estimator: Any) -> bool:
    """True when code that no library here knows sees the rows first: a function, a class of the package's own."""
    return any(_is_unknown(part) for part in _first_parts(estimator))


def _is_unknown(part: Any) -> bool:
    if type(part).__name__ == "FunctionTransformer":
        return part.func is not None and not isinstance(part.func, np.ufunc)
    return _library(part) not in _NUMERIC


def takes_objects(estimator: Any) -> bool:
    """True when each row is a dict to scikit-learn itself: DictVectorizer, FeatureHasher."""
    return any(type(part).__name__ in ("DictVectorizer", "FeatureHasher") for part in _first_parts(estimator))


def _first_parts(estimator: Any) -> Iterator[Any]:
    steps = [step for _, step in getattr(estimator, "steps", ())]
    if steps:
        yield from _first_parts(steps[0])
        return
    held = [entry[1] for name in ("transformer_list", "transformers_") for entry in getattr(estimator, name, ())]
    held = [part for part in held if hasattr(part, "__dict__")] or list(_held(estimator))
    yield estimator
    for part in held:
        yield from _first_parts(part)


class _Walk:
    """Collects what each part says of the columns that reach it."""

    def __init__(self) -> None:
        self.found: dict[int, _Findings] = {}

    def visit(self, part: Any, seen: _Seen) -> _Seen:
        """Note what a part knows of the columns it sees; the columns that come out, for the part behind it."""
        if part is None or isinstance(part, str):
            return seen if part != "drop" else ()
        if hasattr(part, "steps"):
            for _, step in part.steps:
                seen = self.visit(step, seen)
            return seen
        if hasattr(part, "transformers_"):
            return self._by_columns(part, seen)
        if hasattr(part, "transformer_list"):
            for _, transformer in part.transformer_list:
                self.visit(transformer, seen)
            return ()
        if held := list(_held(part)):
            subsets = getattr(part, "estimators_features_", [None] * len(held))
            for one, chosen in zip(held, subsets, strict=False):
                self.visit(one, seen if chosen is None else [seen[place] for place in chosen])
            if _library(part) not in _NUMERIC:
                self._note(seen, "any", takes_null=True)
            return ()
        return self._leaf(part, seen)

    def _by_columns(self, part: Any, seen: _Seen) -> _Seen:
        out: dict[int, _Column | None] = {}
        # Where the columns of each transformer stand in what comes out.
        places: dict[str, slice] = getattr(part, "output_indices_", {})
        for name, transformer, chosen in part.transformers_:
            inside = [seen[place] for place in places_of(part, chosen, len(seen)) if place < len(seen)]
            left = self.visit(transformer, inside)
            target = places.get(name, slice(0, 0))
            if target.stop - target.start == len(left):
                out |= dict(zip(range(target.start, target.stop), left, strict=True))
        size = max((one.stop for one in places.values()), default=0)
        return [out.get(place) for place in range(size)]

    def _leaf(self, part: Any, seen: _Seen) -> _Seen:
        name, library = type(part).__name__, _library(part)
        if library in ("lightgbm", "xgboost"):
            self._note(seen, "number", takes_null=True)
            self._note_categories(seen, _booster_categories(part))
            return ()
        if name == "FunctionTransformer":
            return self._function(part, seen)
        if name in _IMPUTERS:
            return self._imputer(part, seen)
        if hasattr(part, "categories_"):
            self._encoder(seen, part.categories_)
        elif hasattr(part, "build_analyzer"):
            self._note(seen, "string", takes_null=False, sample=next(iter(getattr(part, "vocabulary_", ())), None))
        elif hasattr(part, "is_categorical_") and library == "sklearn":
            self._histogram_boosting(part, seen)
        elif library in _NUMERIC:
            self._note(seen, "number", takes_null=name in _SCALERS)
            return seen if name in _SCALERS else ()
        else:
            self._note(seen, "any", takes_null=True)
        return ()

    def _function(self, part: Any, seen: _Seen) -> _Seen:
        if part.func is None:
            return seen
        if isinstance(part.func, np.ufunc):
            self._note(seen, "number", takes_null=True)
            return seen
        self._note(seen, "any", takes_null=True)
        return ()

    def _imputer(self, part: Any, seen: _Seen) -> _Seen:
        known = getattr(part, "statistics_", None)
        samples = [None] * len(seen) if known is None or len(known) != len(seen) else list(known)
        for column, sample in zip(seen, samples, strict=True):
            text = isinstance(sample, str)
            self._note([column], "string" if text else "number", takes_null=True, sample=sample if text else None)
        if getattr(part, "add_indicator", False) or any(sample is None or sample != sample for sample in samples):
            # Other columns come out than went in.
            return () if type(part).__name__ == "SimpleImputer" else [_filled(column) for column in seen]
        return [_filled(column) for column in seen]

    def _encoder(self, seen: _Seen, categories: Iterable[Any]) -> None:
        for column, known in zip(seen, categories, strict=False):
            present = [value for value in _plain(known) if not (value is None or value != value)]
            has_null = len(present) < len(known)
            self._note([column], _kind_of(present), takes_null=has_null, sample=present[0] if present else None)

    def _histogram_boosting(self, part: Any, seen: _Seen) -> None:
        mask = part.is_categorical_ if part.is_categorical_ is not None else [False] * len(seen)
        categorical = [column for column, chosen in zip(seen, mask, strict=False) if chosen]
        self._note([column for column in seen if column not in categorical], "number", takes_null=True)
        encoder = dict(getattr(getattr(part, "_preprocessor", None), "named_transformers_", {})).get("encoder")
        for column, known in zip(categorical, getattr(encoder, "categories_", ()), strict=False):
            present = [value for value in _plain(known) if value == value]
            self._note([column], _kind_of(present), takes_null=True, sample=present[0] if present else None)

    def _note_categories(self, seen: _Seen, categories: Categories) -> None:
        for place, known in categories.items():
            column = seen[place] if place < len(seen) else None
            if column is not None:
                self.found[column.place].categories = known

    def _note(self, seen: _Seen, kind: ColumnKind, *, takes_null: bool, sample: Scalar | None = None) -> None:
        for column in seen:
            if column is None:
                continue
            found = self.found.setdefault(column.place, _Findings())
            # What an imputer passes on was told of before it.
            if not (column.is_filled and kind == "number"):
                found.kinds.add(kind)
            found.takes_null &= takes_null or column.is_filled
            if found.sample is None:
                found.sample = sample


def _filled(column: _Column | None) -> _Column | None:
    return None if column is None else column._replace(is_filled=True)


def _held(part: Any) -> Iterator[Any]:
    """The fitted estimators that see what `part` sees."""
    if type(part).__module__.startswith(_FORESTS) or hasattr(part, "ranking_"):
        return
    own = getattr(part, "__dict__", {})
    names = [name for name in _FITTED if name in own]
    if not names:
        names = ["estimator"] if "estimator" in own else []
    if not names and _library(part) not in _NUMERIC:
        names = [name for name, value in own.items() if hasattr(value, "predict") or hasattr(value, "transform")]
    for name in names:
        value = own[name]
        for one in value if isinstance(value, list | tuple) else [value]:
            if hasattr(one, "__dict__"):
                yield one


def _parts(estimator: Any) -> Iterator[Any]:
    """All that it is made of."""
    for _, step in getattr(estimator, "steps", ()):
        yield step
    for entry in (*getattr(estimator, "transformers_", ()), *getattr(estimator, "transformer_list", ())):
        yield entry[1]
    yield from _held(estimator)
    if hasattr(estimator, "final_estimator_"):
        yield estimator.final_estimator_


def _library(part: Any) -> str:
    return type(part).__module__.partition(".")[0]


def _booster_categories(part: Any) -> Categories:
    """The categories that a wrapper of LightGBM or XGBoost was trained with."""
    try:
        if _library(part) == "lightgbm":
            return lightgbm_categories(part.booster_)
        return xgboost_categories(part.get_booster())
    except AttributeError:
        return {}  # not fitted, as both libraries say


def places_of(part: Any, chosen: Any, count: int) -> list[int]:
    """The places of the columns that a ColumnTransformer gives to a transformer."""
    names = list(getattr(part, "feature_names_in_", ()))
    if isinstance(chosen, str):
        return [names.index(chosen)]
    if isinstance(chosen, slice):
        ends = [names.index(end) if isinstance(end, str) else end for end in (chosen.start, chosen.stop)]
        # Of names the last one belongs to the slice, as with pandas.
        stop = ends[1] + 1 if isinstance(chosen.stop, str) else ends[1]
        return list(range(count))[slice(ends[0], stop, chosen.step)]
    listed = list(chosen) if hasattr(chosen, "__iter__") else [chosen]
    if listed and all(isinstance(one, bool | np.bool_) for one in listed):
        return [place for place, is_chosen in enumerate(listed) if is_chosen]
    return [names.index(one) if isinstance(one, str) else int(one) % max(count, 1) for one in listed]


def _are_names(columns: Any) -> bool:
    if isinstance(columns, slice):
        return isinstance(columns.start, str) or isinstance(columns.stop, str)
    if isinstance(columns, str):
        return True
    found = list(columns) if hasattr(columns, "__iter__") else []
    return bool(found) and all(isinstance(name, str) for name in found)


def _plain(values: Any) -> list[Any]:
    return list(values.tolist() if hasattr(values, "tolist") else values)


def _kind_of(values: Sequence[Any]) -> ColumnKind:
    if values and all(isinstance(value, str) for value in values):
        return "string"
    return "number" if all(type(value) in (int, float) for value in values) else "any"
