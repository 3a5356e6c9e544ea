"""Chooses the adapter from what model.yaml declares and what the model knows of itself; for `loader.py`."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from model_server.domain.features import DType, Feature, Metadata, Scalar
from model_server.domain.model import ColumnKind, InputAdapter, Signature, TrainedColumn
from model_server.domain.tensors import DTYPES, Tensor
from model_server.errors import MetadataInvalid
from model_server.inputs.columns import Columns
from model_server.inputs.matrix import Matrix, matrix_dtype
from model_server.inputs.tensors import TensorAdapter
from model_server.inputs.texts import Texts
from model_server.inputs.untyped import Untyped

MATRIX_NAME = "input-0"


def select_adapter(
    metadata: Metadata, signature: Signature, *, described_in: str = "model.yaml: input_features"
) -> InputAdapter:
    """Raise MetadataInvalid where the package contradicts the model; `described_in` is where it is described."""
    declared = metadata.input_features
    if declared:
        _check_against_model(declared, signature, described_in)
        _check_categories(declared, signature, described_in)
    if signature.tensors and not _is_matrix(signature.tensors):
        return _graph_adapter(declared, signature.tensors)
    if signature.takes_texts and not declared:
        return Texts(signature.columns.get(0, TrainedColumn()).sample, signature.features)
    features = declared or signature.features or _features_of(signature)
    if not features:
        return Untyped()
    samples = _samples(features, signature)
    if signature.tensors:
        (tensor,) = signature.tensors
        return Matrix(tensor.name, [_fitted(feature, tensor) for feature in features], tensor.dtype)
    if (
        signature.as_columns
        or (declared and signature.may_use_names)
        or not all(feature.is_numeric for feature in features)
    ):
        return Columns(features, samples)
    return Matrix(MATRIX_NAME, features, matrix_dtype(features), samples)


def adapter_of(features: tuple[Feature, ...]) -> InputAdapter:
    """The adapter for features that code of the package takes: each keeps its own dtype."""
    if all(feature.is_numeric for feature in features) and len({feature.dtype for feature in features}) == 1:
        return Matrix(MATRIX_NAME, features, matrix_dtype(features))
    return Columns(features)


def _samples(features: tuple[Feature, ...], signature: Signature) -> dict[str, Scalar]:
    """Values that the model was trained with, by feature."""
    columns = ((feature.name, signature.columns.get(place)) for place, feature in enumerate(features))
    return {name: column.sample for name, column in columns if column is not None and column.sample is not None}


def _is_matrix(tensors: tuple[Tensor, ...]) -> bool:
    """One numeric input of known width: the usual tabular graph."""
    if len(tensors) != 1:
        return False
    (tensor,) = tensors
    return len(tensor.shape) == 2 and tensor.shape[1] > 0 and tensor.dtype.kind in "fiu"


def _graph_adapter(declared: tuple[Feature, ...], tensors: tuple[Tensor, ...]) -> InputAdapter:
    """Several inputs of one column each are features; anything else keeps the graph's own shapes."""
    if not all(len(tensor.shape) <= 2 and tensor.shape[1:] in ((), (1,)) for tensor in tensors):
        return TensorAdapter(tensors)
    by_name = {tensor.name: tensor for tensor in tensors}
    if not declared:
        return Columns([Feature(name=name, dtype=_dtype_of(tensor)) for name, tensor in by_name.items()])
    if by_name.keys() != {feature.name for feature in declared}:
        names = ", ".join(feature.name for feature in declared)
        raise MetadataInvalid(
            f"model.yaml: input_features are {names}, and the model's inputs are {', '.join(by_name)}"
        )
    # In the order of model.yaml, in which clients send lists: the graph takes its inputs by name.
    return Columns([_fitted(feature, by_name[feature.name]) for feature in declared])


def _fitted(feature: Feature, tensor: Tensor) -> Feature:
    """The feature, no wider than its tensor: what the graph could not hold must be refused and not be changed."""
    dtype = _dtype_of(tensor)
    if dtype in ("string", "bool") or not feature.is_numeric:
        if feature.dtype != dtype:
            raise MetadataInvalid(
                f"model.yaml: {feature.name} is of dtype {feature.dtype}, and the model takes {tensor.datatype}"
            )
        return feature
    # A whole number stays one, though a graph of floats holds the largest ones to some digits only.
    if np.can_cast(feature.dtype, dtype) or (feature.is_integer and dtype in ("float32", "float64")):
        return feature
    try:
        return replace(feature, dtype=dtype)
    except ValueError as error:
        raise MetadataInvalid(f"model.yaml: {feature.name}: {error}: the model takes {tensor.datatype}") from None


def _features_of(signature: Signature) -> tuple[Feature, ...]:
    if signature.feature_names:
        return tuple(
            _trained_feature(name, signature.columns.get(place)) for place, name in enumerate(signature.feature_names)
        )
    if signature.tensors:
        (tensor,) = signature.tensors
        return tuple(Feature(name=f"x{index}", dtype=_dtype_of(tensor)) for index in range(tensor.shape[1]))
    count = signature.feature_count or 0
    return tuple(_trained_feature(f"x{index}", signature.columns.get(index)) for index in range(count))


def _trained_feature(name: str, column: TrainedColumn | None) -> Feature:
    """A feature as the model remembers it: values that were in none of its categories are refused."""
    if column is None:
        return Feature(name=name)
    dtypes: dict[ColumnKind, DType] = {"number": "float64", "string": "string", "any": "any"}
    dtype = dtypes[column.kind]
    if column.categories is not None:
        kinds = {type(category) for category in column.categories}
        of_one_kind: dict[type, DType] = {str: "string", bool: "bool", int: "float64" if column.takes_null else "int64"}
        dtype = of_one_kind.get(kinds.pop(), "float64") if len(kinds) == 1 else "float64"
    # What was not sent is not taken for missing: only model.yaml can say that it may be left out.
    return Feature(
        name=name,
        dtype=dtype,
        categories=column.categories,
        nullable=column.takes_null and dtype not in ("bool", "int64"),
        required=True,
    )


def _check_categories(declared: tuple[Feature, ...], signature: Signature, described_in: str) -> None:
    for place, feature in enumerate(declared):
        categories = signature.columns.get(place, TrainedColumn()).categories or ()
        if not all(feature.has_type(category) for category in categories):
            listed = ", ".join(map(repr, categories[:10]))
            raise MetadataInvalid(
                f"{described_in}: {feature.name} is of dtype {feature.dtype}, "
                f"and was trained as the categories {listed}",
                hint="Give it the dtype of its categories: string, int64, float64 or bool.",
            )


def _check_against_model(declared: tuple[Feature, ...], signature: Signature, described_in: str) -> None:
    names = tuple(feature.name for feature in declared)
    count = signature.feature_count
    if _is_matrix(signature.tensors):
        count = signature.tensors[0].shape[1]
    if count is not None and len(names) != count:
        raise MetadataInvalid(f"{described_in} lists {len(names)}, and the model was trained with {count}")
    trained = signature.feature_names
    if signature.has_blanks_replaced:
        # LightGBM replaces them in its own file, and the training table keeps them.
        names = tuple(name.replace(" ", "_") for name in names)
    if trained and names != trained:
        if set(names) == set(trained):
            raise MetadataInvalid(
                f"{described_in} are in another order than the model was trained with",
                hint=f"The model's order: {', '.join(trained)}.",
            )
        strange = next(name for name in names if name not in trained)
        raise MetadataInvalid(
            f"{described_in} names {strange!r}, which the model was not trained with",
            hint=f"The model's features: {', '.join(trained)}.",
        )


def _dtype_of(tensor: Tensor) -> DType:
    return "string" if tensor.datatype == "BYTES" else DTYPES[tensor.datatype].name  # type: ignore[return-value]
