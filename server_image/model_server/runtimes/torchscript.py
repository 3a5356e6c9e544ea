"""PyTorch without the training script: TorchScript modules (.pt) and programs of torch.export (.pt2), on the CPU.

Both are read from their own zip layouts. Weights alone (`torch.save(model.state_dict())`) are no model: they
are told apart by what the zip holds, and refused with the way out.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_server.domain.model import Signature
from model_server.domain.tensors import Array, Inputs, Outputs, Tensor
from model_server.errors import ArtifactCorrupt, InvalidInput, LoadFailed, PredictionError
from model_server.package.reader import Package

_SAVE = "Save it with torch.export.save(program, path), or torch.jit.script(model).save(path)."
_CONVERT = "Export a module that takes float32 and converts it itself."
_MAPPING = "Dict[str, Tensor]"
_DATATYPES = {
    torch.float32: "FP32",
    torch.float64: "FP64",
    torch.float16: "FP16",
    torch.int8: "INT8",
    torch.int16: "INT16",
    torch.int32: "INT32",
    torch.int64: "INT64",
    torch.uint8: "UINT8",
    torch.bool: "BOOL",
}


def load(package: Package, *, threads: int) -> Script | Program:
    """Open the module or the program. Raises ArtifactCorrupt, or LoadFailed for what cannot be called."""
    (path,) = package.artifacts
    torch.set_num_threads(threads)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, EOFError) as error:
        raise ArtifactCorrupt(f"{path.name} is no PyTorch archive: {error}") from None
    if any(name.startswith("code/") for name in names):
        return Script(path.name, _opened(path, torch.jit.load))
    if "archive_format" in names or path.suffix.lower() == ".pt2":
        return Program(path.name, _opened(path, torch.export.load))
    raise LoadFailed(f"{path.name} holds weights or a pickled module, and no code to run them", hint=_SAVE)


def _opened(path: Path, read: Any) -> Any:
    try:
        with warnings.catch_warnings():
            # PyTorch wants no new TorchScript files; those that people have are still read.
            warnings.filterwarnings("ignore", message=".*torch.jit.load.* is deprecated")
            return read(str(path))
    except Exception as error:
        # Reading builds the module from its own code, which may fail in any way.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise LoadFailed(
            f"{path.name} cannot be loaded: {type(error).__name__}: {lines[-1][:500] if lines else ''}",
            hint=f"PyTorch {torch.__version__} is installed; was the file saved by a newer one?",
        ) from None


class Script:
    """Calls a TorchScript module; several inputs are given by the names of its arguments, or in one dictionary."""

    runs_inline = True
    signature = Signature()
    probability_output = ""
    classes: tuple[object, ...] = ()

    def __init__(self, name: str, module: Any) -> None:
        self._module = module.eval()
        # A module takes what it was trained in, and requests bring double precision.
        self._dtype = next((one.dtype for one in module.parameters() if one.dtype.is_floating_point), None)
        self._takes_whole = True
        given = [one for one in module.forward.schema.arguments[1:] if not one.has_default_value()]
        self._takes_mapping = [str(one.type) for one in given] == [_MAPPING]
        for one in given:
            if str(one.type) != "Tensor" and not self._takes_mapping:
                raise LoadFailed(
                    f"{name} takes {one.name} as {one.type}, and this server gives tensors",
                    hint="Save a module that takes tensors, and make them in a pre.py; or write a model.py.",
                )

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        tensors = {name: _tensor(array) for name, array in inputs.items()}
        with torch.inference_mode():
            return _outputs(self._answer(tensors))

    def _answer(self, tensors: Mapping[str, Any]) -> Any:
        """Call the module; whether it takes whole numbers is not written in it, and found out by the first that come.

        Tokens are whole, and so are measurements that happen to have no fraction.
        """
        if self._takes_whole:
            try:
                return self._call({name: self._given(one) for name, one in tensors.items()})
            except RuntimeError:
                if self._dtype is None or not any(_is_whole(one) for one in tensors.values()):
                    raise
                with suppress(RuntimeError):
                    answer = self._call({name: self._given(one, whole=True) for name, one in tensors.items()})
                    self._takes_whole = False
                    return answer
                raise
        return self._call({name: self._given(one, whole=True) for name, one in tensors.items()})

    def _call(self, tensors: Mapping[str, Any]) -> Any:
        if self._takes_mapping:
            return self._module(tensors)
        return self._module(*tensors.values()) if len(tensors) == 1 else self._module(**tensors)

    def _given(self, tensor: Any, *, whole: bool = False) -> Any:
        is_number = tensor.dtype.is_floating_point or (whole and _is_whole(tensor))
        return tensor.to(self._dtype) if self._dtype is not None and is_number else tensor


class Program:
    """Calls a program of torch.export, which knows its inputs and their shapes."""

    runs_inline = True
    probability_output = ""
    classes: tuple[object, ...] = ()

    def __init__(self, name: str, program: Any) -> None:
        self._call = program.module()
        self._spec = program.call_spec.in_spec
        values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
        given = [one for one in program.graph_signature.user_inputs if isinstance(one, str)]
        self.signature = Signature(tensors=tuple(_described(name, one, values[one]) for one in given))

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        leaves = [_tensor(inputs[one.name].astype(one.dtype, copy=False)) for one in self.signature.tensors]
        arguments, named = self._spec.unflatten(leaves)
        with torch.inference_mode():
            return _outputs(self._call(*arguments, **named))


def _described(file: str, name: str, value: Any) -> Tensor:
    if value.dtype not in _DATATYPES:
        raise LoadFailed(f"input {name} is a {value.dtype}, which this server cannot send", hint=_CONVERT)
    sizes = [size if isinstance(size, int) else -1 for size in value.shape]
    if not sizes or sizes[0] != -1:
        raise LoadFailed(
            f"input {name} of {file} takes {sizes[0] if sizes else 'no'} rows and no other number",
            hint="Export it with a free first dimension: dynamic_shapes={'x': {0: torch.export.Dim('rows')}}.",
        )
    return Tensor(name, _DATATYPES[value.dtype], tuple(sizes))


def _tensor(array: Array) -> Any:
    if array.dtype.kind not in "fiub":
        raise InvalidInput.at("instances", "expected rows of numbers, all of one shape")
    return torch.tensor(np.ascontiguousarray(array))


def _is_whole(tensor: Any) -> bool:
    return not (tensor.dtype.is_floating_point or tensor.dtype is torch.bool)


def _outputs(answer: Any) -> Outputs:
    if isinstance(answer, Mapping):
        return {str(name): _array(str(name), value) for name, value in answer.items()}
    if isinstance(answer, Sequence):
        return {f"output-{index}": _array(f"output-{index}", value) for index, value in enumerate(answer)}
    return {"predict": _array("predict", answer)}


def _array(name: str, value: Any) -> Array:
    if not isinstance(value, torch.Tensor):
        raise PredictionError(
            f"the model's output {name} is a {type(value).__name__}, and only tensors are answered",
            hint="Save a module that returns a tensor, a tuple or a dictionary of tensors.",
        )
    # NumPy has no bfloat16.
    array: Array = (value.float() if value.dtype is torch.bfloat16 else value).numpy()
    return array
