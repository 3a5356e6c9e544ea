"""How a pool is told, and what is made of what its pods say."""

from typing import Any

import pytest
from rich.console import Console

from modeldeploy.pools import (
    Pool,
    PoolPod,
    hits_of,
    line_of,
    memory_of,
    models_of,
    models_table,
    pods_table,
    size_of,
)
from modeldeploy.rollout import Verdict


def pool(generation: int = 2, **status: Any) -> Pool:
    spec = {"models": [{"name": "a"}, {"name": "b"}], "memoryBudget": "1Gi"}
    metadata = {"name": "small", "namespace": "risk", "generation": 2}
    return Pool.from_body(
        {"metadata": metadata, "spec": spec, "status": {"observedGeneration": generation, **status} if status else {}}
    )


@pytest.mark.parametrize(
    ("found", "line"),
    [
        pytest.param(pool(), "small: Pending  2 models, 0 in memory, 0 failed", id="before the operator has begun"),
        pytest.param(
            pool(phase="Ready", models=2, loaded=1, ready="3/3", message="all is well"),
            "small: Ready  2 models, 1 in memory, 0 failed  3/3 pods ready  all is well",
            id="ready",
        ),
        pytest.param(
            pool(generation=1, phase="Ready"),
            "small: Pending  2 models, 0 in memory, 0 failed  the operator has not seen the newest spec yet",
            id="a status of an older spec",
        ),
        pytest.param(
            pool(phase="Ready", message="evil \x1b[2J"),
            "small: Ready  2 models, 0 in memory, 0 failed  evil ^[[2J",
            id="control characters are shown",
        ),
    ],
)
def test_a_line(found: Pool, line: str) -> None:
    assert line_of(found) == line


@pytest.mark.parametrize(
    ("phase", "verdict"),
    [("Ready", Verdict.HEALTHY), ("Degraded", Verdict.FAILED), ("Pending", Verdict.WAITING), ("?", Verdict.WAITING)],
)
def test_a_verdict(phase: str, verdict: Verdict) -> None:
    assert pool(phase=phase).verdict is verdict


STATE: dict[str, Any] = {
    "models": {"unloaded": 7, "loaded": 2, "failed": 1},
    "memoryBytes": 96 * 2**20,
    "budgetBytes": 2**30,
    "hits": 990,
    "misses": 10,
    "evictions": 3,
    "overBudget": 1,
    "processEnds": 0,
}


def test_the_state_of_a_pod() -> None:
    found = PoolPod.from_answer("small-1", STATE)
    assert memory_of(found) == "96 MiB of 1,024 MiB (9%)"
    assert hits_of(found) == "990 (99.0%)"
    assert rows(pods_table([found])) == [
        ["small-1", "2", "1", "0", "96 MiB of 1,024 MiB (9%)", "990 (99.0%)", "10", "3", "1", "0"]
    ]


def test_a_server_of_an_older_release_says_less() -> None:
    found = PoolPod.from_answer("small-1", {"models": {"loaded": 2}, "failures": []})
    assert (found.states["loaded"], memory_of(found), hits_of(found)) == (2, "", "0")


@pytest.mark.parametrize("answer", [None, [], {}, {"models": 1}, "text"])
def test_another_answer_is_no_state(answer: Any) -> None:
    with pytest.raises(ValueError, match="small-1 answers /pool with something else"):
        PoolPod.from_answer("small-1", answer)


@pytest.mark.parametrize("value", [-1, 2**60, True, "5", None, 1.5, float("nan")])
def test_a_count_that_is_none_is_nothing(value: Any) -> None:
    assert PoolPod.from_answer("p", {"models": {"loaded": value}, "hits": value}).hits == 0


def said(name: str, state: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "version": "",
        "state": state,
        "reason": "",
        "bytes": 0,
        "inFlight": 0,
        "idleSeconds": None,
        **more,
    }


def test_models_are_put_together_over_the_pods() -> None:
    first = [said("a", "loaded", bytes=2**20, idleSeconds=90.2, inFlight=1, version="7"), said("b", "unloaded")]
    second = [said("a", "unloaded", idleSeconds=5), said("b", "failed", reason="ArtifactNotFound: gone")]
    a, b = models_of({"p1": first, "p2": second})
    assert (a.state, a.pods, a.bytes, a.in_flight, a.idle_seconds) == ("loaded, unloaded", ("p1",), 2**20, 1, 5)
    assert (b.state, b.pods, b.reason) == ("unloaded, failed", (), "ArtifactNotFound: gone")
    assert rows(models_table([a, b], 2)) == [
        ["a", "loaded, unloaded", "1 of 2 pods", "1 MiB", "1", "5s ago", "7"],
        ["b", "unloaded, failed", "0 of 2 pods", "0", "ArtifactNotFound: gone"],
    ]


@pytest.mark.parametrize("answer", [None, {}, [1], [{}]])
def test_another_answer_is_no_list_of_models(answer: Any) -> None:
    with pytest.raises(ValueError, match="p answers /pool/models with something else"):
        models_of({"p": answer})


@pytest.mark.parametrize("idle", [float("inf"), -1, "long"])
def test_a_time_that_is_none_is_left_out(idle: Any) -> None:
    (found,) = models_of({"p": [said("a", "loaded", idleSeconds=idle)]})
    assert found.idle_seconds is None


def test_a_size() -> None:
    assert (size_of(0), size_of(1), size_of(3 * 2**30)) == ("", "1 MiB", "3,072 MiB")


def rows(table: Any) -> list[list[str]]:
    console = Console(width=300)
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()[1:]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
