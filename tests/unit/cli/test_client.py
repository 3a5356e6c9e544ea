"""What the Python client makes of rows, answers and rollouts."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest

import modeldeploy
from modeldeploy import Client
from modeldeploy.arguments import Duration, seconds_of
from modeldeploy.client import ModelRefused, RolloutFailed, _as_json, settled
from modeldeploy.kube import MODELDEPLOYMENTS
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


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (300, 300),
        (0.5, 0.5),
        (0, 0),
        (timedelta(minutes=5), 300),
        ("5m", 300),
        ("1h30m", 5400),
        (float("inf"), float("inf")),
    ],
)
def test_a_timeout_is_seconds_a_timedelta_or_a_duration(timeout: Duration, seconds: float) -> None:
    assert seconds_of(timeout) == seconds


@pytest.fixture
def nowhere(tmp_path: Path) -> Client:
    """A client of an API server that nobody runs: what it is asked for never gets there."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        """{current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}], users: [{name: a, user: {}}],
        clusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}]}"""
    )
    return Client(kubeconfig=kubeconfig, namespace="risk")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda it: it.wait("fraud", timeout="300"), ValueError, "'300' is no duration: write a number and a unit"),
        (
            lambda it: it.wait("fraud", timeout=None),
            TypeError,
            r"timeout is None: give seconds \(300\), a timedelta, or",
        ),
        (lambda it: it.wait("fraud", timeout=-1), ValueError, "timeout is -1, and must be 0 or more"),
        (lambda it: it.wait("fraud", timeout=float("nan")), ValueError, "timeout is nan, and must be 0 or more"),
        pytest.param(lambda it: it.delete(""), ValueError, "name is empty", id="an empty name is not all models"),
        (lambda it: it.delete(None), TypeError, "name is None: give the name of a ModelDeployment as a str"),
        (lambda it: it.pause(""), ValueError, "name is empty"),
        (lambda it: it.deploy("", "s3://models/fraud/1"), ValueError, "name is empty"),
        (lambda it: it.patch("fraud", "replicas=3"), TypeError, "spec is of type str: give fields of spec as a dict"),
        (lambda it: it.patch("fraud", {"kind": "ModelDeployment", "spec": {}}), ValueError, "spec is a whole manifest"),
        (lambda it: it.deploy("fraud", Path("models/1")), TypeError, "give a str with a scheme, as in 's3://models"),
        (
            lambda it: it.deploy("fraud", "s3://models/1", spec={"model": {"storageUri": "s3://models/2"}}),
            ValueError,
            "'s3://models/1', and .* 's3://models/2': give one of them",
        ),
        (
            lambda it: it.deploy("fraud", "s3://models/1", spec={"model": "x"}),
            TypeError,
            r"spec\['model'\] is of type str",
        ),
    ],
)
def test_a_wrong_argument_is_told_what_to_write(
    nowhere: Client, call: Callable[[Client], Any], error: type[Exception], message: str
) -> None:
    with nowhere, pytest.raises(error, match=message):
        call(nowhere)


def test_a_request_for_one_object_never_goes_to_all_of_them(nowhere: Client) -> None:
    with nowhere, pytest.raises(ValueError, match=r"'delete' on modeldeployments\.modeldeploy\.dev needs a name"):
        nowhere._session.kube.delete(MODELDEPLOYMENTS, "")


def test_the_package_has_the_client_and_says_what_else_it_has_not() -> None:
    assert modeldeploy.Client.__name__ == "Client"
    with pytest.raises(AttributeError, match="'Clint'; known: AsyncClient, Client"):
        modeldeploy.Clint  # noqa: B018 - what is asked for is not there
