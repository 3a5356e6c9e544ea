"""What is kept of answers until their labels come, and how much of it."""

from __future__ import annotations

import numpy as np
import pytest

from model_server.monitoring.window import LARGEST_BYTES, MOST_ANSWERS, MOST_BYTES, AnswerWindow, bytes_of

PROBABILITIES = "predict_proba"


def filled(answers: int, values: int) -> AnswerWindow:
    window = AnswerWindow(PROBABILITIES)
    for number in range(answers):
        window.remember(b"%d" % number, {"predict": np.zeros(values)})
    return window


def objects(*values: object) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_a_prediction_and_its_probabilities_are_kept_and_no_other_output():
    window = AnswerWindow(PROBABILITIES)
    window.remember(b"1", {"predict": np.array([1]), PROBABILITIES: np.array([[0.2, 0.8]]), "more": np.zeros(10**6)})
    predictions, probabilities, *_ = window.find(b"1")
    assert predictions.tolist() == [1]
    assert probabilities.tolist() == [[0.2, 0.8]]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(np.zeros(LARGEST_BYTES // 8 + 1), id="numbers"),
        pytest.param(objects("x" * LARGEST_BYTES), id="a text"),
        pytest.param(objects({"parts": ["x" * LARGEST_BYTES]}), id="a text deep in a document"),
        pytest.param(objects(*range(LARGEST_BYTES)), id="very many objects"),
        pytest.param(np.zeros(LARGEST_BYTES)[:1], id="a row of a large batch, which it keeps alive"),
    ],
)
def test_a_very_large_answer_is_not_kept(answer):
    window = AnswerWindow(PROBABILITIES)
    window.remember(b"1", {"predict": answer})
    assert window.find(b"1") is None


def test_newer_answers_push_older_ones_out_by_their_bytes():
    values = LARGEST_BYTES // 8
    window = filled(2 * MOST_BYTES // LARGEST_BYTES, values)
    kept = [number for number in range(2 * MOST_BYTES // LARGEST_BYTES) if window.find(b"%d" % number)]
    assert len(kept) == MOST_BYTES // LARGEST_BYTES
    assert kept[-1] == 2 * MOST_BYTES // LARGEST_BYTES - 1


def test_newer_answers_push_older_ones_out_by_their_number():
    window = filled(MOST_ANSWERS + 1, 1)
    assert window.find(b"0") is None
    assert window.find(b"1") is not None


def test_an_id_that_comes_again_and_again_takes_the_place_of_one():
    window = AnswerWindow(PROBABILITIES)
    for _ in range(4 * MOST_BYTES // LARGEST_BYTES):
        window.remember(b"same", {"predict": np.zeros(LARGEST_BYTES // 8)})
    window.remember(b"other", {"predict": np.zeros(1)})
    assert window.find(b"same") is not None
    window.forget(b"same")
    assert window.find(b"same") is None
    assert window.find(b"other") is not None


def test_bytes_of_objects_count_what_they_hold():
    assert bytes_of(objects("x" * 1000), 10**6) > 1000
    assert bytes_of(objects([b"x" * 1000, np.zeros(1000)]), 10**6) > 9000
    assert bytes_of(np.zeros(1000), 10**6) == 8000
