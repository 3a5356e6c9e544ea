"""How a Deployment moves from one ReplicaSet to the next."""

from typing import Any

import pytest

from model_sandbox.controllers import rollout


def deployment(replicas: int, surge: Any = "25%", unavailable: Any = "25%") -> Any:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {"spec": {"replicas": replicas, "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}}


def replica_set(name: str, size: int, available: int, age: int = 0) -> Any:
    return {
        "metadata": {"name": name, "creationTimestamp": f"2030-01-01T00:00:{age:02}Z"},
        "spec": {"replicas": size},
        "status": {"availableReplicas": available},
    }


@pytest.mark.parametrize(
    ("spec", "limits"),
    [
        pytest.param(deployment(4), (1, 1), id="a quarter of four is one"),
        pytest.param(deployment(3), (1, 0), id="surge is rounded up, unavailable down"),
        pytest.param(deployment(1, 0, 0), (0, 1), id="one of them must be above zero"),
        pytest.param(deployment(2, 0, "100%"), (0, 2), id="all may be missing"),
    ],
)
def test_limits(spec: Any, limits: tuple[int, int]) -> None:
    assert rollout.limits(spec) == limits


@pytest.mark.parametrize(
    ("new", "old", "sizes"),
    [
        pytest.param((0, 0), [("a", 4, 4)], {"new": 1}, id="the surge goes to the new set"),
        pytest.param((1, 0), [("a", 4, 4)], {}, id="nothing is taken away before the new pod is available"),
        pytest.param((1, 1), [("a", 4, 4)], {"a": 3}, id="an available new pod lets an old one go"),
        pytest.param((1, 1), [("a", 4, 3)], {"a": 3}, id="pods that are not available go first"),
        pytest.param((4, 4), [("a", 1, 1)], {"a": 0}, id="the last old pod goes"),
        pytest.param((6, 6), [], {"new": 4}, id="a set that is too large shrinks"),
    ],
)
def test_rolling(new: tuple[int, int], old: list[tuple[str, int, int]], sizes: dict[str, int]) -> None:
    sets = [replica_set(*one) for one in old]
    assert rollout.rolling_sizes(deployment(4, 1, 0), replica_set("new", *new), sets) == sizes


def test_a_rollout_never_goes_below_or_above_its_limits() -> None:
    spec, new, old = deployment(5, 2, 1), replica_set("new", 0, 0, 9), replica_set("old", 5, 5)
    for _ in range(30):
        for name, size in rollout.rolling_sizes(spec, new, [old]).items():
            (new if name == "new" else old)["spec"]["replicas"] = size
        assert rollout.size_of(new) + rollout.size_of(old) <= 7
        for one in (new, old):
            one["status"]["availableReplicas"] = min(one["status"]["availableReplicas"], rollout.size_of(one))
        assert rollout.available(new) + rollout.available(old) >= 4
        if rollout.available(new) < rollout.size_of(new):
            new["status"]["availableReplicas"] += 1
    assert (rollout.size_of(new), rollout.size_of(old)) == (5, 0)


def test_a_change_of_size_in_the_middle_is_shared_in_proportion() -> None:
    new, old = replica_set("new", 2, 2, 9), replica_set("old", 8, 8)
    sizes = rollout.resized(deployment(20, 0, 1), new, [old])
    assert sizes == {"new": 4, "old": 16}


def test_templates_are_equal_whatever_their_hash() -> None:
    one = {"metadata": {"labels": {"a": "b"}}, "spec": {"x": 1}}
    other = {"metadata": {"labels": {"a": "b", rollout.HASH_LABEL: "abc"}}, "spec": {"x": 1}}
    assert rollout.same_template(one, other)
    assert rollout.template_hash(one, 0) == rollout.template_hash(one, 0) != rollout.template_hash(one, 1)
