"""Which columns a pipeline of scikit-learn drops: those that its ColumnTransformer selects for nothing. PURE.

A ColumnTransformer that was trained with a table selects columns by name, and needs at predict only those that it uses
(`ColumnTransformer.transform`). Only the library's own classes are read: another class may look at all columns.
"""

from collections.abc import Sequence
from typing import Any

_TRANSFORMER = "sklearn.compose._column_transformer.ColumnTransformer"
_PIPELINE = "sklearn.pipeline.Pipeline"


def dropped_names(model: Any) -> Sequence[str]:
    """Return the columns that a trained model drops in its first step; none where that is not certain."""
    while _is_a(model, _PIPELINE) and model.steps:
        model = model.steps[0][1]
    if not _is_a(model, _TRANSFORMER) or not hasattr(model, "feature_names_in_"):
        return ()
    names = [str(name) for name in model.feature_names_in_]
    used: set[str] = set()
    for _, transformer, columns in model.transformers_:
        if isinstance(transformer, str) and transformer == "drop":
            continue
        selected = _selected(columns, names)
        if selected is None:
            return ()
        used.update(selected)
    return [name for name in names if name not in used]


def _is_a(model: Any, qualified: str) -> bool:
    return f"{type(model).__module__}.{type(model).__qualname__}" == qualified


def _selected(columns: Any, names: Sequence[str]) -> Sequence[str] | None:
    """Return the columns of one transformer, which has them as names, numbers or a mask; None for other forms."""
    chosen = columns.tolist() if hasattr(columns, "tolist") else columns
    many = chosen if isinstance(chosen, list) else [chosen]
    if all(isinstance(one, str) for one in many):
        return many
    if all(isinstance(one, bool) for one in many) and len(many) == len(names):
        return [name for name, is_chosen in zip(names, many, strict=True) if is_chosen]
    if all(isinstance(one, int) and not isinstance(one, bool) for one in many):
        return [names[one] for one in many]
    return None
