"""What is kept of predictions, for how long, and how it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from model_server.errors import InvalidInput
from model_server.http.comparison import read_question
from model_server.monitoring.prediction_log import SLOTS, VALUES, Kept, PredictionLog
from model_server.shared_values import SharedValues


def rings(workers: int = 1) -> list[PredictionLog]:
    memory = bytearray(SharedValues.size(workers))
    return [PredictionLog(SharedValues(memory, worker)) for worker in range(workers)]


def kept(values: Any) -> Kept:
    (ring,) = rings()
    ring.ask(every=1, seconds=60)
    ring.keep(b"body", {"first": np.asarray(values), "second": np.zeros(3)})
    _, (found,), _ = ring.since([0])
    return found


@pytest.mark.parametrize(
    ("values", "size", "shown"),
    [
        pytest.param([1.5, 2.5], 2, [1.5, 2.5], id="numbers as they are"),
        pytest.param([1, 0], 2, [1.0, 0.0], id="classes that are numbers as numbers"),
        pytest.param(["1", "0"], 2, [1.0, 0.0], id="and classes that are written numbers too"),
        pytest.param([True], 1, [1.0], id="truth as one"),
        pytest.param([[0.25, 0.75]], 2, [0.25, 0.75], id="all values of a row"),
        pytest.param(np.arange(VALUES + 4), VALUES + 4, list(map(float, range(VALUES))), id="the first of many"),
        pytest.param([np.nan, np.inf, 1.0], 3, [None, None, 1.0], id="what JSON has no word for as null"),
    ],
)
def test_of_an_output_is_kept(values: Any, size: int, shown: Sequence[float | None]) -> None:
    found = kept(values)
    assert (found.size, found.values) == (size, shown)
    assert found.document == {"request": found.request, "size": size, "numbers": shown}


def test_labels_are_kept_as_digests() -> None:
    cat, dog, again = kept(["cat", "dog", "cat"]).values
    assert cat == again != dog
    assert kept([b"cat"]).values == [cat], "whatever bytes or text it was"
    assert kept(["cat"]).document.keys() == {"request", "size", "labels"}


def test_one_request_in_so_many_is_kept_and_the_same_ones_everywhere() -> None:
    bodies = [b"%d" % number for number in range(400)]
    found = []
    for every in (4, 4, 8):
        (ring,) = rings()
        ring.ask(every=every, seconds=60)
        for body in bodies:
            ring.keep(body, {"y": np.ones(1)})
        found.append([one.request for one in ring.since([0])[1]])
    assert found[0] == found[1]
    assert 60 < len(found[0]) < 140
    assert set(found[2]) < set(found[0]), "of a doubled number the rest is still the same everywhere"


def test_a_ring_forgets_the_oldest_and_says_how_many() -> None:
    (ring,) = rings()
    ring.ask(every=1, seconds=60)
    for number in range(SLOTS + 10):
        ring.keep(b"%d" % number, {"y": np.array([number])})
    counts, found, missed = ring.since([5])
    assert counts == [SLOTS + 10]
    assert len(found) + missed == SLOTS + 5
    assert found[-1].values == [SLOTS + 9.0]
    assert ring.since(counts) == (counts, [], 0)
    assert len(ring.since([SLOTS * 9])[1]) == SLOTS - 1, "a count of another process counts from the beginning"


def test_every_worker_keeps_while_anybody_asks() -> None:
    one, other = rings(2)
    other.refresh()
    assert other.every == 0
    one.ask(every=2, seconds=60)
    other.refresh()
    assert other.every == 2
    one.ask(every=2, seconds=-1)
    for ring in (one, other):
        ring.refresh()
        assert ring.every == 0, "and no longer"


@pytest.mark.parametrize(
    ("question", "why"),
    [
        pytest.param({"seconds": 5}, "every: expected a whole number from 1 to 65536, got None", id="no every"),
        pytest.param({"every": True, "seconds": 5}, "every: expected a whole number", id="a truth for a number"),
        pytest.param({"every": 70_000, "seconds": 5}, "from 1 to 65536", id="too large an every"),
        pytest.param({"every": 1, "seconds": 0}, "seconds: expected a number above 0", id="no time"),
        pytest.param({"every": 1, "seconds": 1e9}, "up to 600", id="for ever"),
        pytest.param({"every": 1, "seconds": 5, "after": [1]}, "after: expected the cursor", id="another's cursor"),
        pytest.param({"every": 1, "seconds": 5, "after": [1, -1]}, "2 counts", id="a negative count"),
        pytest.param({"every": 1, "seconds": 5, "evry": 1}, "evry: is not known; known are every", id="a typo"),
    ],
)
def test_a_question_that_is_not_understood_says_what_to_write(question: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        read_question(question, workers=2)
    assert why in "; ".join(f"{problem.field}: {problem.message}" for problem in raised.value.problems)
