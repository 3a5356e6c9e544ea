"""What the Python client makes of rows, answers and rollouts."""

from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest

import modeldeploy
from modeldeploy.client import ModelRefused, RolloutFailed, _as_json, settled
from modeldeploy.rollout import Rollout


def rollout(phase: str, ready: str = "False", **status: Any) -> Rollout:
    conditions = [{"type": "Ready", "status": ready}]
    status = {"observedGeneration": 1, "phase": phase, "conditions": conditions, **status}
    return Rollout.from_body({"metadata": {"name": "fraud", "generation": 1}, "spec": {}, "status": status})


@pytest.mark.parametrize(
    ("rows", "sent"),
    [
        pytest.param([[1, 2]], [[1, 2]], id="lists"),
        pytest.param(np.array([[1.5, 2.0]]), [[1.5, 2.0]], id="an array"),
        pytest.param(pd.DataFrame({"a": [1], "b": ["x"]}), [{"a": 1, "b": "x"}], id="a table"),
        pytest.param(pd.DataFrame({"a": [1.0, np.nan]}), [{"a": 1.0}, {"a": None}], id="a hole in a table"),
        pytest.param(pd.Series([1, 0]), [1, 0], id="labels"),
    ],
)
def test_rows_are_sent_as_json(rows: Any, sent: Any) -> None:
    assert _as_json(rows) == sent


def test_a_wait_ends_with_what_became_of_the_rollout() -> None:
    assert settled(rollout("Progressing")) is None
    assert settled(rollout("Healthy", "True")) == rollout("Healthy", "True")
    failures = [{"revision": "6f8d", "reason": "ArtifactNotFound", "message": "no such object"}]
    with pytest.raises(RolloutFailed, match=r"Degraded: .* \(6f8d: ArtifactNotFound: no such object\)") as failed:
        settled(rollout("Degraded", message="the first revision cannot serve", podFailures=failures))
    assert failed.value.rollout.phase == "Degraded"
    with pytest.raises(RolloutFailed, match=r"Degraded: ArtifactNotFound: no such object$"):
        settled(rollout("Degraded", message="ArtifactNotFound: no such object", podFailures=failures))


def test_a_refusal_says_what_the_model_said() -> None:
    error = ModelRefused("fraud", 422, {"error": "instances[0].age is missing", "reason": "InvalidInput"})
    assert str(error) == "fraud answered 422: instances[0].age is missing"
    assert (error.status, error.answer["reason"]) == (422, "InvalidInput")
    unknown = {"error": "no prediction with id 'x' is remembered here", "hint": "Send prediction and label."}
    assert str(ModelRefused("fraud", 404, unknown)).endswith("is remembered here. Send prediction and label.")


def test_the_package_has_the_client_and_says_what_else_it_has_not() -> None:
    assert modeldeploy.Client.__name__ == "Client"
    with pytest.raises(AttributeError, match="'Clint'; known: AsyncClient, Client"):
        modeldeploy.Clint  # noqa: B018 - what is asked for is not there
