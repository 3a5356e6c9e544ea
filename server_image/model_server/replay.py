"""A replay: stable answers its own recent requests anew, and a candidate answers the same ones and is compared.

`http/routers/replay.py` serves both to the operator. Each request is one call of the model, in its thread and while no
other request waits, so that both revisions are timed alike and no client waits for more than one such call. The answer
of a candidate has counts and names of features, and no value of anybody's request. docs/wire.md has the forms.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

import numpy as np
import orjson

from model_server.batching import Batcher, translated
from model_server.domain.features import Feature
from model_server.domain.model import LoadedModel
from model_server.domain.tensors import DTYPES, Array, Inputs, Outputs, as_json, datatype_of, values_of
from model_server.errors import InvalidInput, RequestError
from model_server.monitoring.prediction_log import comparable_values

#: Values of one answer that are compared.
VALUES = 256
#: Numbers of this relative distance are the same: libraries round differently.
ROUNDING = 1e-6
MOST_FAULTS = 5
#: Characters of a feature's name in an answer.
MOST_NAME = 100
_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How answers are compared: numbers within `tolerance` agree, and a call is slow beyond `max_ratio` of stable's."""

    tolerance: float
    relative: bool
    max_ratio: float


@dataclass(slots=True)
class Comparison:
    """The counts of a replay so far."""

    how: Agreement
    agreed: int = 0
    differed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    distances: list[float] = field(default_factory=list)
    slower: int = 0
    stable_seconds: list[float] = field(default_factory=list)
    canary_seconds: list[float] = field(default_factory=list)

    def add(self, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        """Count an answer of stable, and the candidate's to the same request."""
        is_equal = agree(ours, theirs, self.how.tolerance)
        self.agreed += is_equal
        self.differed += not is_equal
        distance = mean_distance(ours, theirs, relative=self.how.relative)
        if distance is not None:
            self.distances.append(distance)
        self.stable_seconds.append(theirs["seconds"])
        self.canary_seconds.append(ours["seconds"])
        self.slower += ours["seconds"] > self.how.max_ratio * theirs["seconds"]

    @property
    def document(self) -> dict[str, Any]:
        """Its form in JSON."""
        refused = self.refused.total()
        faults = [{"feature": name, "count": count} for name, count in self.refused.most_common(MOST_FAULTS)]
        return {
            "requests": self.agreed + self.differed + refused,
            "agreed": self.agreed,
            "refused": refused,
            "faults": faults,
            "distance": {
                "count": len(self.distances),
                "total": math.fsum(self.distances),
                "squares": math.fsum(distance * distance for distance in self.distances),
            },
            "timed": len(self.canary_seconds),
            "slower": self.slower,
            "stable": _times(self.stable_seconds),
            "canary": _times(self.canary_seconds),
        }


class Replay:
    """Asks one model for requests that no client waits for."""

    def __init__(self, loaded: LoadedModel, batcher: Batcher) -> None:
        self._loaded, self._batcher = loaded, batcher

    async def answered(self, sample: Sequence[Inputs], *, seconds: float, most_bytes: int) -> list[orjson.Fragment]:
        """Answer requests until all are, the time is over or the answers are too many; what fails is left out."""
        found: list[orjson.Fragment] = []
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for inputs in sample:
                    document = await self._document(inputs)
                    size += len(document)
                    if size > most_bytes:
                        break
                    if document:
                        found.append(orjson.Fragment(document))
        return found

    async def compared(self, requests: Sequence[Mapping[str, Any]], how: Agreement, *, seconds: float) -> Comparison:
        """Answer the requests of stable's document, until all are or the time is over, and compare."""
        comparison = Comparison(how)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for request in requests:
                    try:
                        answer = await self._answer(inputs_of(request, self._loaded))
                    except RequestError as error:
                        comparison.refused[_feature_of(error)] += 1
                    else:
                        comparison.add(request, answer)
        return comparison

    async def _document(self, inputs: Inputs) -> bytes:
        """A request with its answer; empty where the model fails on it, or JSON has no word for a value of it."""
        try:
            answer = await self._answer(inputs)
            rows = rows_of_inputs(inputs, self._loaded.adapter.features)
            return orjson.dumps({**rows, **answer}, default=as_json, option=_JSON)
        except (RequestError, TypeError):
            return b""

    async def _answer(self, inputs: Inputs) -> dict[str, Any]:
        """The first output of one call, and its seconds. Raises RequestErrors."""
        try:
            outputs, seconds = await self._batcher.when_idle(_timed(self._loaded, inputs))
        except Exception as error:
            raise translated(error) from None
        array = next(iter(outputs.values()))
        values, kind = comparable_values(array, VALUES)
        return {"size": array.size, kind: values, "seconds": seconds}


def rows_of_inputs(inputs: Inputs, features: Sequence[Feature]) -> dict[str, Any]:
    """The rows of a request, by feature where features have names, else its tensors."""
    names = [feature.name for feature in features]
    if names and set(inputs) == set(names):
        columns = [_plain(inputs[feature.name].reshape(-1), feature) for feature in features]
        return {"instances": [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]}
    if names and len(inputs) == 1:
        (matrix,) = inputs.values()
        columns = [_plain(matrix[:, place], feature) for place, feature in enumerate(features)]
        return {"instances": [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]}
    return {
        "tensors": {
            name: {"datatype": datatype_of(array.dtype), "shape": list(array.shape), "data": _flat(array)}
            for name, array in inputs.items()
        }
    }


def inputs_of(request: Mapping[str, Any], loaded: LoadedModel) -> Inputs:
    """The arrays of a request of stable's document. Raises InvalidInput where they are none of this model."""
    if "instances" in request:
        return loaded.adapter.from_instances(request["instances"], numbers_only=False)
    return loaded.adapter.from_tensors({name: _array(tensor) for name, tensor in request["tensors"].items()})


def agree(ours: Mapping[str, Any], theirs: Mapping[str, Any], tolerance: float) -> bool:
    """Whether two answers have as many values, and each is the same label or a number within the tolerance."""
    if ours["size"] != theirs["size"] or ours.get("labels") != theirs.get("labels"):
        return False
    numbers, others = ours.get("numbers", []), theirs.get("numbers", [])
    return len(numbers) == len(others) and all(
        a == b if a is None or b is None else math.isclose(a, b, rel_tol=ROUNDING, abs_tol=tolerance)
        for a, b in zip(numbers, others, strict=True)
    )


def mean_distance(ours: Mapping[str, Any], theirs: Mapping[str, Any], *, relative: bool) -> float | None:
    """The mean distance of the numbers of two answers; None if they have none, or differ in size."""
    if ours["size"] != theirs["size"]:
        return None
    pairs = zip(ours.get("numbers", ()), theirs.get("numbers", ()), strict=False)
    finite = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not finite:
        return None
    return math.fsum(_distance(a, b, relative=relative) for a, b in finite) / len(finite)


def _distance(ours: float, theirs: float, *, relative: bool) -> float:
    unit = max(abs(ours), abs(theirs)) if relative else 1.0
    return abs(ours - theirs) / (unit or 1.0)


def _timed(loaded: LoadedModel, inputs: Inputs) -> Callable[[], tuple[Outputs, float]]:
    def call() -> tuple[Outputs, float]:
        # A model may compute in place.
        own = {name: array.copy() for name, array in inputs.items()}
        began = time.perf_counter()
        outputs = loaded.model.predict(own, probabilities=False)
        return outputs, time.perf_counter() - began

    return call


def _plain(column: Array, feature: Feature) -> list[Any]:
    """A column as JSON has it: whole numbers of a matrix of floats are whole again, and NaN is null."""
    values = [None if value != value else value for value in values_of(column)]
    if feature.dtype == "date":
        return [None if value is None else value.date() for value in values]
    if feature.is_integer and column.dtype.kind == "f":
        return [int(value) if value is not None and value == int(value) else value for value in values]
    return values


def _flat(array: Array) -> list[Any]:
    return values_of(array.reshape(-1))


def _array(tensor: Mapping[str, Any]) -> Array:
    dtype, data = DTYPES[tensor["datatype"]], tensor["data"]
    if dtype.kind == "O":
        array = np.empty(len(data), dtype=object)
        for place, value in enumerate(data):  # at once, lists would be taken apart
            array[place] = value
    else:
        array = np.array([np.nan if value is None else value for value in data], dtype=dtype)
    return array.reshape(tensor["shape"])


def _feature_of(error: RequestError) -> str:
    """The feature that a refusal names, without the value in its message; the reason where it names none."""
    where = error.problems[0].field if isinstance(error, InvalidInput) else ""
    name = where.partition("].")[2] or where
    return name[:MOST_NAME] or error.reason


def _times(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile; 0 without a call."""
    if len(seconds) < 2:
        return dict.fromkeys(("median", "p95"), seconds[0] if seconds else 0.0)
    return {"median": median(seconds), "p95": quantiles(seconds, n=20, method="inclusive")[-1]}
