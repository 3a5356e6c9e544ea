"""The pages of pools: what is read, how often, and what they say where pods are silent."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from modeldeploy.dashboard.pages import pool_page, pools_page
from modeldeploy.dashboard.pooled import MOST_MODELS, Pools, PoolView
from modeldeploy.dashboard.reaching import PodSilent
from modeldeploy.dashboard.view.pods import Pod
from modeldeploy.kube import KubeError, Resource
from modeldeploy.session import UnknownName

SCRIPT = "<script>alert(1)</script>"
STATE = {"models": {"loaded": 1}, "memoryBytes": 96 * 2**20, "budgetBytes": 2**30, "hits": 9, "misses": 1}


def body(name: str = "small", namespace: str = "risk", **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "generation": 1}
    spec = {"models": [{"name": "a"}], "memoryBudget": "1Gi"}
    return {"metadata": metadata, "spec": spec, "status": {"observedGeneration": 1, "phase": "Ready", **status}}


def pod(name: str, *, is_ready: bool = True) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(is_ready)}]
    metadata = {"name": name, "namespace": "risk", "labels": {"modeldeploy.dev/pool": "small"}}
    return {"metadata": metadata, "spec": {}, "status": {"phase": "Running", "conditions": conditions}}


class Cluster:
    """An API server with these pools, whose pods answer; counts what it is asked."""

    def __init__(self, pools: list[dict[str, Any]], pods: list[dict[str, Any]], answers: Mapping[str, Any]) -> None:
        self.pools, self.pods, self.answers, self.reads = pools, pods, answers, 0

    def read(self, pod: Pod, path: str, query: Mapping[str, list[str]]) -> bytes:
        self.reads += 1
        answer = self.answers[path]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def list(self, resource: Resource, namespace: str | None = None, **_: Any) -> list[dict[str, Any]]:
        found = self.pods if resource.plural == "pods" else self.pools
        return [one for one in found if namespace in (None, one["metadata"]["namespace"])]

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        for one in self.list(resource, namespace):
            if one["metadata"]["name"] == name:
                return one
        raise KubeError(404, "NotFound", "it is not there")


def models(*names: str, **more: Any) -> list[dict[str, Any]]:
    plain = {"version": "", "state": "loaded", "reason": "", "bytes": 2**20, "inFlight": 0, "idleSeconds": 3}
    return [{"name": name, **plain, **more} for name in names]


def pools(cluster: Cluster, namespaces: tuple[str, ...] = (), clock: Any = lambda: 0.0) -> Pools:
    return Pools(cluster, cluster, namespaces, clock)  # type: ignore[arg-type]


def shown(view: PoolView) -> str:
    return pool_page(view, {}, cluster="all namespaces")


def test_a_pool_has_its_pods_and_its_models() -> None:
    answers = {"/pool": STATE, "/pool/models": [*models("a"), *models("b", state="failed", reason="ArtifactNotFound")]}
    cluster = Cluster([body()], [pod("p1"), pod("p2"), pod("p3", is_ready=False)], answers)
    view = pools(cluster).view("risk", "small")
    assert [one.pod for one in view.pods] == ["p1", "p2"]
    assert [one.name for one in view.unready] == ["p3"]
    assert [(one.name, len(one.pods)) for one in view.models] == [("b", 0), ("a", 2)], "what failed is first"
    page = shown(view)
    assert "96 MiB of 1,024 MiB (9%)" in page
    assert "9 (90.0%)" in page
    assert "Running, not ready" in page
    assert "3s ago" in page


def test_pods_are_not_asked_at_each_look() -> None:
    now = 100.0
    cluster = Cluster([body()], [pod("p1")], {"/pool": STATE, "/pool/models": models("a")})
    known = pools(cluster, clock=lambda: now)
    known.view("risk", "small")
    known.view("risk", "small")
    assert cluster.reads == 2
    now += 6
    known.view("risk", "small")
    assert cluster.reads == 4


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        pytest.param({"/pool": PodSilent("p1 answers /pool with 401")}, "p1 answers /pool with 401", id="a key"),
        pytest.param({"/pool": b"<html>"}, "p1 is not shown", id="no JSON"),
        pytest.param({"/pool": b"[" * 100_000}, "p1 is not shown", id="JSON that is nested too deeply"),
        pytest.param({"/pool": [], "/pool/models": []}, "something else than its state", id="another document"),
        pytest.param({"/pool": STATE, "/pool/models": {}}, "something else than its models", id="no list of models"),
    ],
)
def test_what_a_pod_does_not_say_is_told(answers: dict[str, Any], said: str) -> None:
    view = pools(Cluster([body()], [pod("p1")], answers)).view("risk", "small")
    assert said in " ".join(view.problems)
    assert said in shown(view)


def test_many_models_are_cut_and_counted() -> None:
    names = [f"m{number}" for number in range(MOST_MODELS + 20)]
    view = pools(Cluster([body()], [pod("p1")], {"/pool": STATE, "/pool/models": models(*names)})).view("risk", "small")
    assert (len(view.models), view.hidden) == (MOST_MODELS, 20)
    assert "20 more are not shown" in shown(view)


def test_pools_that_are_not_ready_come_first() -> None:
    found = pools(Cluster([body("a"), body("b", phase="Degraded", failed=2)], [], {})).all()
    assert [one.name for one in found] == ["b", "a"]
    page = pools_page(found, {}, cluster="all namespaces")
    assert page.index("/pools/risk/b") < page.index("/pools/risk/a")
    assert "There are no pools here" in pools_page([], {}, cluster="all namespaces")


def test_other_namespaces_are_not_shown() -> None:
    known = pools(Cluster([body(), body(namespace="other")], [], {}), ("risk",))
    assert [one.namespace for one in known.all()] == ["risk"]
    for namespace, name in (("other", "small"), ("risk", "none")):
        with pytest.raises(UnknownName, match="There is no ModelPool"):
            known.view(namespace, name)


def test_texts_of_the_cluster_are_escaped() -> None:
    answers = {"/pool": STATE, "/pool/models": models(SCRIPT, reason=SCRIPT, version=SCRIPT, state=SCRIPT)}
    cluster = Cluster([body(message=SCRIPT)], [pod("p1")], answers)
    assert SCRIPT not in shown(pools(cluster).view("risk", "small"))
    assert SCRIPT not in pools_page(pools(cluster).all(), {}, cluster="all namespaces")
