"""Which revision of a ModelDeployment a ModelBatch begins with."""

from typing import Any

import orjson
import pytest

from model_operator.api.batch import ModelBatch
from model_operator.api.names import REVISION_SPEC, revision_name
from model_operator.policy.batches import resolve

SOURCE = {"model": {"storageUri": "s3://models/fraud/7"}}
CHILDREN = {
    ("Deployment", revision_name("fraud", "aaaa")): {
        "metadata": {"annotations": {REVISION_SPEC: orjson.dumps(SOURCE).decode()}}
    }
}
SERVED = [{"revision": "aaaa"}]


def a_batch(**status: Any) -> ModelBatch:
    spec = {"model": {"name": "fraud"}, "input": {"uri": "s3://in/a.csv"}, "output": {"uri": "s3://out"}}
    metadata: dict[str, Any] = {"namespace": "shop", "name": "nightly", "uid": "1", "generation": 1}
    metadata["creationTimestamp"] = "2026-01-31T02:00:00Z"
    return ModelBatch.from_body({"metadata": metadata, "spec": spec, "status": status})


def a_model(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "fraud"}, "status": {"stableRevision": "aaaa", **status}}


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({"phase": "Healthy"}, id="a healthy model, also one that is scaled to zero"),
        pytest.param({"phase": "Progressing", "canaryRevision": "bbbb", "history": SERVED}, id="a rollout goes on"),
        pytest.param({"phase": "Degraded", "abortedRevision": "bbbb"}, id="a new revision was aborted"),
        pytest.param({"phase": "Degraded", "history": SERVED}, id="pods of a revision that served are down"),
    ],
)
def test_a_revision_that_was_live_is_pinned(status: dict[str, Any]) -> None:
    found = resolve(a_batch(), a_model(**status), CHILDREN)
    assert found.pinned.revision == "aaaa"
    assert found.source == SOURCE


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({"phase": "Pending"}, id="the first revision is not ready"),
        pytest.param({"phase": "Degraded"}, id="the first revision failed"),
        pytest.param({}, id="no operator has seen the model"),
    ],
)
def test_a_first_revision_that_never_served_is_waited_for(status: dict[str, Any]) -> None:
    found = resolve(a_batch(), a_model(message="0 of 1 pods ready", **status), CHILDREN)
    assert found.source is None
    assert found.condition.reason == "ModelNotReady"
    assert found.condition.message == "ModelDeployment 'fraud' has no stable revision yet: 0 of 1 pods ready"


def test_a_model_that_is_absent_is_waited_for() -> None:
    assert resolve(a_batch(), None, {}).condition.reason == "ModelNotFound"


PINNED = {"name": "fraud", "revision": "aaaa", "storageUri": "s3://models/fraud/7"}


@pytest.mark.parametrize(
    ("model", "children", "reason"),
    [
        pytest.param(None, {}, "ModelNotFound", id="deleted, or renamed, which is the same"),
        pytest.param(
            a_model(phase="Healthy", stableRevision="bbbb"), {}, "RevisionNotFound", id="made again by its name"
        ),
        pytest.param(
            a_model(phase="Healthy", stableRevision="bbbb"), CHILDREN, "ModelFound", id="its revision is kept"
        ),
    ],
)
def test_a_batch_whose_model_changes_before_its_job_stays_with_its_revision(
    model: dict[str, Any] | None, children: dict[tuple[str, str], Any], reason: str
) -> None:
    found = resolve(a_batch(model=PINNED), model, children)
    assert found.condition.reason == reason
    assert found.pinned.revision == "aaaa"


def test_a_pinned_revision_stays() -> None:
    model = a_model(phase="Healthy") | {"status": {"stableRevision": "bbbb", "phase": "Healthy"}}
    assert resolve(a_batch(model=PINNED), model, CHILDREN).pinned.revision == "aaaa"


def test_a_model_behind_a_server_of_its_own_predicts_no_batch() -> None:
    source = {"model": {}, "server": {"container": {"image": "vllm:1", "port": 8000}}}
    annotations = {REVISION_SPEC: orjson.dumps(source).decode()}
    children = {("Deployment", revision_name("fraud", "aaaa")): {"metadata": {"annotations": annotations}}}
    found = resolve(a_batch(), a_model(phase="Healthy"), children)
    assert found.source is None
    assert found.condition.reason == "ModelNotOurs"
