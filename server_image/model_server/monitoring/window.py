"""The last answers, bounded by number and by bytes, which wait for their labels; `feedback.py` joins the two."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from model_server.domain.tensors import Array, Inputs, Outputs

MOST_ANSWERS = 10_000
MOST_BYTES = 16 * 2**20
#: A larger answer is not remembered: a label for a picture or a long text comes with the prediction.
LARGEST_BYTES = 16 * 2**10
# What Python needs for a value beside its own bytes; a dictionary or a list takes about as much for each entry.
_OBJECT_BYTES = 64


#: The prediction, shape (rows, ...), the probabilities, shape (rows, classes), of one request, their bytes, and the
#: groups of the rows by slice.
Answered: TypeAlias = tuple[Array, Array | None, int, Mapping[str, Sequence[str]]]
_NO_GROUPS: Mapping[str, Sequence[str]] = {}


class AnswerWindow:
    """The most recent answers by their request's id."""

    def __init__(self, probability_output: str) -> None:
        self._probability_output = probability_output
        self._answers: OrderedDict[bytes, Answered] = OrderedDict()
        self._bytes = 0

    def remember(self, identifier: bytes, outputs: Outputs, groups: Mapping[str, Sequence[str]] = _NO_GROUPS) -> int:
        """Keep the parts of an answer that a label is compared with, until newer ones push it out; their bytes."""
        predictions = next(iter(outputs.values()))
        probabilities = outputs.get(self._probability_output) if len(outputs) > 1 else None
        size = bytes_of(predictions, LARGEST_BYTES)
        if probabilities is not None:
            size += bytes_of(probabilities, LARGEST_BYTES)
        for group in groups.values():
            # The texts themselves are shared.
            size += _OBJECT_BYTES + 8 * len(group)
        if size > LARGEST_BYTES:
            return size
        if identifier in self._answers:
            self.forget(identifier)
        self._answers[identifier] = predictions, probabilities, size, groups
        self._bytes += size
        while len(self._answers) > MOST_ANSWERS or self._bytes > MOST_BYTES:
            _, (_, _, oldest, _) = self._answers.popitem(last=False)
            self._bytes -= oldest
        return size

    def find(self, identifier: bytes) -> Answered | None:
        """The answer with this id, None when it is not remembered."""
        return self._answers.get(identifier)

    def forget(self, identifier: bytes) -> None:
        """Let an answer go, if it is there."""
        answer = self._answers.pop(identifier, None)
        if answer is not None:
            self._bytes -= answer[2]


def bytes_of(array: Array, limit: int) -> int:
    """The memory that an array keeps, in bytes; of objects an estimate, which stops above `limit`."""
    # A row of a batch keeps the whole batch.
    whole = array if array.base is None else array.base
    size: int = getattr(whole, "nbytes", array.nbytes)
    return size if array.dtype.kind != "O" else size + _bytes_of_objects(array, limit)


def bytes_of_all(arrays: Inputs, limit: int) -> int:
    """The memory of several arrays, as `bytes_of` has it."""
    size = 0
    for array in arrays.values():
        size += bytes_of(array, limit)
    return size


def _bytes_of_objects(array: Array, limit: int) -> int:
    size = 0
    waiting: list[Any] = [array.flat]
    while waiting and size <= limit:
        for value in waiting.pop():
            size += _OBJECT_BYTES
            if isinstance(value, str | bytes):
                size += len(value)
            elif isinstance(value, Mapping):
                waiting += [value.keys(), value.values()]
            elif isinstance(value, list | tuple):
                waiting.append(value)
            else:
                size += getattr(value, "nbytes", 0)
            if size > limit:
                break
    return size
