"""Which column of a table each column behind a transformer was made of; pure.

A transformer of a known kind changes each column on its own, so what a model makes of the new columns can be added up
by the old ones. https://scikit-learn.org/stable/data_transforms.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from model_server.runtimes.inspection import places_of

#: One column out for each column in.
_ONE_TO_ONE = frozenset(
    {
        *("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "PowerTransformer", "QuantileTransformer"),
        *("OrdinalEncoder", "Binarizer"),
    }
)


def sources_of(transformer: Any, sources: Sequence[int]) -> list[int] | None:
    """The source of each column that comes out, of those that go in; None where one has several or is not known."""
    if transformer is None or transformer == "passthrough":
        return list(sources)
    if isinstance(transformer, str):
        return [] if transformer == "drop" else None
    kind = type(transformer)
    if not kind.__module__.startswith("sklearn."):
        return None
    if kind.__name__ == "Pipeline":
        return _of_steps([step for _, step in transformer.steps], sources)
    if kind.__name__ == "ColumnTransformer":
        return _of_columns(transformer, sources)
    if kind.__name__ in _ONE_TO_ONE:
        return list(sources)
    if kind.__name__ == "FunctionTransformer":
        is_known = transformer.func is None or isinstance(transformer.func, np.ufunc)
        return list(sources) if is_known else None
    if kind.__name__ == "SimpleImputer":
        return None if transformer.add_indicator or _is_empty_dropped(transformer) else list(sources)
    if kind.__name__ == "OneHotEncoder":
        return _repeated(sources, getattr(transformer, "_n_features_outs", ()))
    if hasattr(transformer, "get_support") and hasattr(transformer, "transform"):
        return [sources[place] for place in transformer.get_support(indices=True)]
    return None


def _of_steps(steps: Sequence[Any], sources: Sequence[int]) -> list[int] | None:
    found: list[int] | None = list(sources)
    for step in steps:
        if found is None:
            return None
        found = sources_of(step, found)
    return found


def _of_columns(transformer: Any, sources: Sequence[int]) -> list[int] | None:
    out: dict[int, int] = {}
    for name, part, chosen in transformer.transformers_:
        places = transformer.output_indices_.get(name, slice(0, 0))
        inside = [sources[place] for place in places_of(transformer, chosen, len(sources))]
        found = sources_of(part, inside)
        if found is None or len(found) != places.stop - places.start:
            return None
        out |= dict(zip(range(places.start, places.stop), found, strict=True))
    return [out[place] for place in sorted(out)]


def _repeated(sources: Sequence[int], counts: Sequence[int]) -> list[int] | None:
    if len(counts) != len(sources):
        return None
    return [source for source, count in zip(sources, counts, strict=True) for _ in range(count)]


def _is_empty_dropped(imputer: Any) -> bool:
    """Whether columns without any value are left out."""
    if getattr(imputer, "keep_empty_features", False):
        return False
    return any(value is None or value != value for value in imputer.statistics_)
