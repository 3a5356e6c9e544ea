"""What the cache is told about a resource wakes a pass, but for the echo of the operator's own writes."""

from typing import Any

import pytest

from model_operator.api.resource import ObjectKey
from model_operator.engine.cache import Cache

KEY = ObjectKey("default", "fraud")


def resource(version: int, phase: str) -> dict[str, Any]:
    metadata = {"name": "fraud", "namespace": "default", "uid": "u", "generation": 1, "resourceVersion": str(version)}
    return {"kind": "ModelDeployment", "metadata": metadata, "spec": {}, "status": {"phase": phase}}


@pytest.fixture
def cache() -> Cache:
    known = Cache()
    known.upsert(resource(1, "Pending"))
    return known


def test_a_change_by_somebody_else_wakes(cache: Cache) -> None:
    assert cache.upsert(resource(2, "Healthy")) == KEY


def test_the_echo_of_an_own_write_wakes_nobody(cache: Cache) -> None:
    with cache.suppress_echo(KEY):
        assert cache.upsert(resource(2, "Healthy")) is None
        assert not cache.upsert_own_write(KEY, resource(2, "Healthy"))
    assert cache.upsert(resource(3, "Degraded")) == KEY


def test_who_wrote_after_us_is_not_missed(cache: Cache) -> None:
    with cache.suppress_echo(KEY):
        assert cache.upsert(resource(3, "Degraded")) is None
        assert cache.upsert_own_write(KEY, resource(2, "Healthy"))
    known = cache.resource(KEY)
    assert known is not None
    assert known["status"] == {"phase": "Degraded"}


def test_a_write_that_fails_leaves_nothing_behind(cache: Cache) -> None:
    with pytest.raises(RuntimeError), cache.suppress_echo(KEY):
        raise RuntimeError
    assert cache.upsert(resource(2, "Healthy")) == KEY


def test_a_resource_that_is_gone_when_the_answer_comes_stays_gone(cache: Cache) -> None:
    with cache.suppress_echo(KEY):
        cache.remove(resource(2, "Pending"))
        assert not cache.upsert_own_write(KEY, resource(2, "Healthy"))
    assert cache.resource(KEY) is None


def deployment(version: int, *conditions: dict[str, str]) -> dict[str, Any]:
    labels = {"modeldeploy.dev/name": "fraud"}
    metadata = {"name": "fraud-6f8d", "namespace": "default", "uid": "d", "resourceVersion": str(version)}
    status = {"conditions": list(conditions)}
    return {"kind": "Deployment", "metadata": {**metadata, "labels": labels}, "spec": {}, "status": status}


def test_pods_that_cannot_be_made_wake_and_the_words_of_their_progress_do_not(cache: Cache) -> None:
    progress = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "message": "is progressing"}
    refusal = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    cache.upsert(deployment(2))
    assert cache.upsert(deployment(3, progress)) is None
    assert cache.upsert(deployment(4, progress, refusal)) == KEY
    assert cache.upsert(deployment(5, progress, {**refusal, "message": "exceeded another quota"})) == KEY
    assert cache.upsert(deployment(6, progress)) == KEY


def test_an_autoscaler_that_cannot_work_wakes_and_one_at_work_does_not(cache: Cache) -> None:
    def autoscaler(version: int, **condition: str) -> Any:
        body = {**deployment(version, {"type": "ScalingActive", "status": "True", **condition})}
        return {**body, "kind": "HorizontalPodAutoscaler"}

    cache.upsert(autoscaler(2))
    assert cache.upsert(autoscaler(3, reason="ValidMetricFound", message="from cpu")) is None
    assert cache.upsert(autoscaler(4, status="False", reason="FailedGetResourceMetric", message="no metrics")) == KEY
