"""Chooses the layout from what model.yaml declares and what the model knows of itself; for `loading.py`."""

from __future__ import annotations

from model_server.errors import MetadataInvalid
from model_server.inputs.anything import Anything
from model_server.inputs.columns import Columns
from model_server.inputs.layout import Layout
from model_server.inputs.matrix import Matrix, matrix_dtype
from model_server.inputs.tensors import TensorLayout
from model_server.package.metadata import DType, Feature, Metadata
from model_server.runtimes.base import Signature
from model_server.tensors import DTYPES, Tensor

MATRIX_NAME = "input-0"


def choose_layout(metadata: Metadata, signature: Signature) -> Layout:
    """Raise MetadataInvalid where the package contradicts the model."""
    declared = metadata.input_features
    if declared:
        _check_against_model(declared, signature)
    if signature.tensors and not _is_matrix(signature.tensors):
        return _graph_layout(declared, signature.tensors)
    features = declared or _features_of(signature)
    if not features:
        return Anything()
    if signature.as_columns or not all(feature.is_numeric for feature in features):
        return Columns(features)
    if signature.tensors:
        (tensor,) = signature.tensors
        return Matrix(tensor.name, features, tensor.dtype)
    return Matrix(MATRIX_NAME, features, matrix_dtype(features))


def _is_matrix(tensors: tuple[Tensor, ...]) -> bool:
    """One numeric input of known width: the usual tabular graph."""
    if len(tensors) != 1:
        return False
    (tensor,) = tensors
    return len(tensor.shape) == 2 and tensor.shape[1] > 0 and tensor.dtype.kind in "fiu"


def _graph_layout(declared: tuple[Feature, ...], tensors: tuple[Tensor, ...]) -> Layout:
    """Several inputs of one column each are features; anything else keeps the graph's own shapes."""
    if not all(len(tensor.shape) <= 2 and tensor.shape[1:] in ((), (1,)) for tensor in tensors):
        return TensorLayout(tensors)
    by_name = {feature.name: feature for feature in declared}
    if declared and by_name.keys() != {tensor.name for tensor in tensors}:
        listed = ", ".join(tensor.name for tensor in tensors)
        raise MetadataInvalid(
            f"model.yaml: input_features are {', '.join(by_name)}, and the model's inputs are {listed}"
        )
    return Columns(
        [by_name.get(tensor.name) or Feature(name=tensor.name, dtype=_dtype_of(tensor)) for tensor in tensors]
    )


def _features_of(signature: Signature) -> tuple[Feature, ...]:
    if signature.feature_names:
        return tuple(Feature(name=name) for name in signature.feature_names)
    if signature.tensors:
        (tensor,) = signature.tensors
        return tuple(Feature(name=f"x{index}", dtype=_dtype_of(tensor)) for index in range(tensor.shape[1]))
    return tuple(Feature(name=f"x{index}") for index in range(signature.feature_count or 0))


def _check_against_model(declared: tuple[Feature, ...], signature: Signature) -> None:
    names = tuple(feature.name for feature in declared)
    count = signature.feature_count
    if _is_matrix(signature.tensors):
        count = signature.tensors[0].shape[1]
    if count is not None and len(names) != count:
        raise MetadataInvalid(f"model.yaml: input_features lists {len(names)}, and the model was trained with {count}")
    known = signature.feature_names
    if known and names != known:
        if set(names) == set(known):
            raise MetadataInvalid(
                "model.yaml: input_features are in another order than the model was trained with",
                hint=f"The model's order: {', '.join(known)}.",
            )
        strange = next(name for name in names if name not in known)
        raise MetadataInvalid(
            f"model.yaml: input_features names {strange!r}, which the model was not trained with",
            hint=f"The model's features: {', '.join(known)}.",
        )


def _dtype_of(tensor: Tensor) -> DType:
    return "string" if tensor.datatype == "BYTES" else DTYPES[tensor.datatype].name  # type: ignore[return-value]
