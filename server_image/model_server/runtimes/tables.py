"""Rows as the libraries of tabular models take them: one array, or a pandas table with names and categories.

LightGBM and XGBoost remember the categories of the table they were trained with. An array would be read as their
codes, which nobody sends: so such models get a table with the same categories. `estimators`, `lightgbm` and `xgboost`
use it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from model_server.domain.tensors import Array, Inputs
from model_server.errors import DependencyMissing, LoadFailed

#: The categories of each column that has some, by the column's place.
Categories: TypeAlias = Mapping[int, tuple[Any, ...]]

#: Where scikit-learn's estimators keep the fitted ones that they are made of.
_PARTS = (
    "steps",
    "transformers_",
    "transformer_list",
    "best_estimator_",
    "estimator",
    "estimator_",
    "estimators_",
    "final_estimator_",
    "regressor_",
    "calibrated_classifiers_",
)


def require_pandas(why: str) -> None:
    """Raise DependencyMissing without it."""
    if find_spec("pandas") is None:
        raise DependencyMissing(
            f"the model {why}, for which it needs pandas, which is not installed",
            hint="Install modeldeploy[server-pandas], or use an image that has it.",
        )


def as_table(inputs: Inputs, categories: Mapping[str, tuple[Any, ...]]) -> Any:
    """A pandas table of the columns, those in `categories` with their categories; what is missing is NaN."""
    import pandas as pd  # type: ignore[import-untyped]

    return pd.DataFrame(
        {
            name: pd.Categorical(values, categories=categories[name]) if name in categories else _with_nan(values)
            for name, values in inputs.items()
        }
    )


def _with_nan(values: Array) -> Array:
    """Text with NaN for what is missing, as pandas reads it from a file, and not None."""
    if values.dtype == object and any(value is None for value in values):
        return np.array([np.nan if value is None else value for value in values], dtype=object)
    return values


def as_matrix(inputs: Inputs) -> Array:
    """The only array, or columns of numbers and booleans side by side; a column alone gets its second dimension."""
    arrays = list(inputs.values())
    if len(arrays) == 1:
        return arrays[0] if arrays[0].ndim > 1 else arrays[0].reshape(-1, 1)
    return np.column_stack(arrays)


def real_feature_names(names: Iterable[Any]) -> tuple[str, ...]:
    """The feature names of the training data, () where LightGBM made them up (`Column_0`, ...)."""
    found = tuple(str(name) for name in names)
    return () if all(name == f"Column_{index}" for index, name in enumerate(found)) else found


def by_name(categories: Categories, names: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Categories by the columns' names."""
    return {names[place]: values for place, values in categories.items()}


def selects_columns(estimator: Any) -> bool:
    """True when it, or something it is made of, picks columns by name, and so needs a table with names."""
    chosen = [columns for _, _, columns in getattr(estimator, "transformers_", ())]
    return any(map(_are_names, chosen)) or any(selects_columns(part) for part in _parts(estimator))


def text_columns(estimator: Any) -> frozenset[str]:
    """The named columns whose encoder (one-hot, ordinal, target, ...) was fitted on text."""
    found: set[str] = set()
    for _, transformer, columns in getattr(estimator, "transformers_", ()):
        if _are_names(columns) and not isinstance(columns, slice):
            names = [columns] if isinstance(columns, str) else list(columns)
            found.update(name for name, known in zip(names, _categories(transformer), strict=False) if _is_text(known))
    return frozenset(found).union(*(text_columns(part) for part in _parts(estimator)))


def _categories(transformer: Any) -> Iterable[Any]:
    """What the first step of a transformer that knows categories was fitted on, a list a column.

    Steps before it keep the columns' places only as long as they fill in what is missing.
    """
    for _, step in getattr(transformer, "steps", [("", transformer)]):
        if hasattr(step, "categories_"):
            return list(step.categories_)
        if type(step).__name__ != "SimpleImputer":
            return ()
    return ()


def _is_text(known: Any) -> bool:
    present = [value for value in known if not (value is None or value != value)]  # NaN is not equal to itself
    return bool(present) and all(isinstance(value, str) for value in present)


def _are_names(columns: Any) -> bool:
    if isinstance(columns, slice):
        return isinstance(columns.start, str) or isinstance(columns.stop, str)
    if isinstance(columns, str):
        return True
    found = list(columns) if hasattr(columns, "__iter__") else []
    return bool(found) and all(isinstance(name, str) for name in found)


def _parts(estimator: Any) -> Iterator[Any]:
    held = getattr(estimator, "__dict__", {})
    for name in _PARTS:
        value = held.get(name)
        for part in value if isinstance(value, list) else [value]:
            yield from (one for one in (part if isinstance(part, tuple) else (part,)) if hasattr(one, "__dict__"))


def categories_of(estimator: Any) -> Categories:
    """The categories that a wrapper of LightGBM or XGBoost was trained with, alone or found by a search."""
    while hasattr(estimator, "best_estimator_"):
        estimator = estimator.best_estimator_
    library = type(estimator).__module__.split(".")[0]
    try:
        if library == "lightgbm":
            return lightgbm_categories(estimator.booster_)
        return xgboost_categories(estimator.get_booster()) if library == "xgboost" else {}
    except AttributeError:
        return {}  # not fitted, as both libraries say


def lightgbm_categories(booster: Any) -> Categories:
    """The categories of LightGBM's Booster. Raises LoadFailed when its file does not tell which columns have them."""
    known = booster.pandas_categorical or []
    if not known:
        return {}
    found = re.search(r"^\[categorical_feature: ([\d,]*)\]$", booster.model_to_string(num_iteration=1), re.MULTILINE)
    places = [int(place) for place in found[1].split(",") if place] if found else []
    if len(places) != len(known):
        raise LoadFailed(
            f"LightGBM was trained with {len(known)} columns of categories, and its model tells of {len(places)} which",
            hint="Train it with unordered pandas categories and categorical_feature='auto', or serve it by a model.py.",
        )
    return dict(zip(places, map(tuple, known), strict=True))


def xgboost_categories(booster: Any) -> Categories:
    """The categories of XGBoost's Booster; none when it was trained with codes, or by a version before 3.1.

    Raises LoadFailed where its file does not hold them whole.
    """
    if "c" not in (booster.feature_types or ()):
        return {}
    model = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    model = model.get("gbtree", model).get("model", {})
    found = enumerate(model.get("cats", {}).get("enc", ()))
    return {place: tuple(_decoded(one)) for place, one in found if one["values"]}


def _decoded(column: Mapping[str, Any]) -> list[Any]:
    """One column's categories: numbers as they are, text as bytes with offsets."""
    if "offsets" not in column:
        return list(column["values"])
    if any(not 0 <= value < 128 for value in column["values"]):
        # It counts characters where its format counts bytes (3.2): what it wrote is cut in the wrong places.
        raise LoadFailed(
            "XGBoost was trained with categories beyond ASCII, which its files do not hold whole",
            hint="Train it with other names for them, or with codes, or serve it by a model.py.",
        )
    text = bytes(column["values"])
    offsets = column["offsets"]
    return [text[begin:end].decode() for begin, end in pairwise(offsets)]
