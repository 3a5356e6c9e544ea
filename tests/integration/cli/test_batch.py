"""`modeldeploy batch` against a real API server; no operator runs here, the status is set by hand."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from modeldeploy.kube import MODELBATCHES, Kube

Run = Callable[..., Any]


@pytest.fixture
def kube(kubeconfig: Path) -> Iterator[Kube]:
    with Kube.connect(kubeconfig) as connection:
        yield connection


@pytest.fixture
def night(kube: Kube) -> Iterator[Kube]:
    spec = {"model": {"name": "fraud"}, "input": {"uri": "s3://a/in.csv"}, "output": {"uri": "s3://a/out"}}
    metadata = {"name": "night"}
    kube.apply(
        MODELBATCHES,
        {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelBatch", "metadata": metadata, "spec": spec},
    )
    tell(kube, phase="Running", rows=1200, percent=40, shardsDone="2/5", message="evil \x1b[2J")
    yield kube
    kube.delete(MODELBATCHES, "night")


def tell(kube: Kube, **status: Any) -> None:
    kube.merge(MODELBATCHES, "night", {"status": {"observedGeneration": 1, **status}}, subresource="status")


def test_batches_are_listed(run: Run, night: Kube) -> None:
    done = run("batch")
    assert done.code == 0, done.err
    head, row = done.out.splitlines()
    assert head.split()[:5] == ["NAME", "PHASE", "PROGRESS", "SHARDS", "ROWS"]
    assert "[####......]  40%" in row
    assert "evil ^[[2J" in row
    assert run("batch", "-A").out.splitlines()[1].startswith("default ")


def test_one_that_is_not_over_has_a_status_of_its_own(run: Run, night: Kube) -> None:
    done = run("batch", "night")
    assert done.code == 2
    assert done.out.startswith("night: Running  [#########...............]  40%  1,200 rows  shards 2/5")


@pytest.mark.parametrize(("phase", "code"), [("Complete", 0), ("Failed", 1)])
def test_a_wait_ends_with_the_batch(run: Run, night: Kube, phase: str, code: int) -> None:
    timer = Timer(1, tell, [night], {"phase": phase, "rows": 3000, "percent": 100})
    timer.start()
    done = run("batch", "night", "--wait", "--timeout", "30s")
    timer.join()
    first, last = done.out.splitlines()
    assert done.code == code
    assert (first.split()[1], last.split()[1]) == ("Running", phase)


def test_a_wait_that_is_too_long_ends(run: Run, night: Kube) -> None:
    assert run("batch", "night", "--wait", "--timeout", "1s").code == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nigth"], "no ModelBatch 'nigth' in namespace default; there are: night"),
        (["--wait"], "--wait needs the NAME of a batch"),
        (["night", "-A"], "leave NAME or --all-namespaces out"),
        (["night", "--wait", "--timeout", "soon"], "soon"),
    ],
)
def test_what_cannot_be_told(run: Run, night: Kube, words: list[str], told: str) -> None:
    done = run("batch", *words)
    assert done.code not in (0, 1) or "no ModelBatch" in done.err
    assert told in done.err
