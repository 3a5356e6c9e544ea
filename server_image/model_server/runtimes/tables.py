"""Rows as the libraries of tabular models take them: one array, or a pandas table with names and categories.

LightGBM and XGBoost remember the categories of the table they were trained with. An array would be read as their
codes, which nobody sends: so such models get a table with the same categories. `estimators`, `lightgbm` and `xgboost`
use it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from model_server.domain.model import TrainedColumn
from model_server.domain.tensors import Array, Inputs
from model_server.errors import DependencyMissing, LoadFailed

#: The categories of each column that has some, by the column's place.
Categories: TypeAlias = Mapping[int, tuple[Any, ...]]


def require_pandas(why: str) -> None:
    """Raise DependencyMissing without it."""
    if find_spec("pandas") is None:
        raise DependencyMissing(
            f"the model {why}, for which it needs pandas, which is not installed",
            hint="Install modeldeploy[server-pandas], or use an image that has it.",
        )


def as_table(inputs: Inputs, categories: Categories, names: Sequence[str] = ()) -> Any:
    """A pandas table of the columns, those in `categories` with their categories; what is missing is NaN.

    A single array of shape (rows, features) is taken apart into columns of these `names`.
    """
    import pandas as pd  # type: ignore[import-untyped]

    if len(inputs) == 1 and (array := next(iter(inputs.values()))).ndim == 2:
        return pd.DataFrame(array, columns=list(names) or None)
    return pd.DataFrame(
        {
            name: pd.Categorical(values, categories=categories[place]) if place in categories else _with_nan(values)
            for place, (name, values) in enumerate(inputs.items())
        }
    )


def as_table_of_objects(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A pandas table of rows that are objects."""
    import pandas as pd

    return pd.DataFrame(list(rows))


def _with_nan(values: Array) -> Array:
    """Text with NaN for what is missing, as pandas reads it from a file, and not None."""
    if values.dtype == object and None in values.tolist():
        return np.array([np.nan if value is None else value for value in values], dtype=object)
    return values


def as_matrix(inputs: Inputs) -> Array:
    """The only array, or columns side by side, with NaN for what is missing; one alone gets its second dimension."""
    arrays = list(inputs.values())
    if len(arrays) == 1:
        return arrays[0] if arrays[0].ndim > 1 else arrays[0].reshape(-1, 1)
    return np.column_stack([_with_nan(array) for array in arrays])


def real_feature_names(names: Iterable[Any]) -> tuple[str, ...]:
    """The feature names of the training data, () where LightGBM made them up (`Column_0`, ...)."""
    found = tuple(str(name) for name in names)
    return () if all(name == f"Column_{index}" for index, name in enumerate(found)) else found


def trained_columns(count: int, categories: Categories) -> dict[int, TrainedColumn]:
    """What a booster remembers of its columns: it knows what to do with missing values."""
    return {place: TrainedColumn(categories=categories.get(place), takes_null=True) for place in range(count)}


def lightgbm_categories(booster: Any) -> Categories:
    """The categories of LightGBM's Booster. Raises LoadFailed when its file does not tell which columns have them."""
    columns = booster.pandas_categorical or []
    if not columns:
        return {}
    found = re.search(r"^\[categorical_feature: ([\d,]*)\]$", booster.model_to_string(num_iteration=1), re.MULTILINE)
    places = [int(place) for place in found[1].split(",") if place] if found else []
    if len(places) != len(columns):
        raise LoadFailed(
            f"LightGBM was trained with {len(columns)} columns of categories, and its model names {len(places)}",
            hint="Train it with unordered pandas categories and categorical_feature='auto', or serve it by a model.py.",
        )
    return dict(zip(places, map(tuple, columns), strict=True))


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
