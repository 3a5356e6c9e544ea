"""What the operator writes into status is what the command line concludes from: fields, and never a sentence.

Every state is one that the engine brought about in a world of virtual time. All sentences of it are reworded: nothing
but the sentence itself may look different then.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from analysis_rows import ROWS, spec_of
from judged_rollout import answer, mirrored, rollout
from lifecycle_states import (
    GATEWAY,
    Body,
    body_of,
    changed,
    created,
    first_failed,
    healthy,
    paused,
    promoted,
    rolled_back,
    starting,
)
from rich.console import Console
from rollout_actions import annotate, live
from rollout_world import World
from version_scenarios import fast_bad

from model_operator.manifests.pods import PodSettings
from model_operator.policy.analysis.state import from_status, verdict
from model_operator.policy.status.analysis_status import metric_entries
from modeldeploy.commands.show import STATUS_OF
from modeldeploy.evidence import evidence_line
from modeldeploy.report.story import JudgedRollout
from modeldeploy.rollout import Rollout
from modeldeploy.view import outdated_of, table_of

REWORDED = "another sentence"


def reworded(value: Any) -> Any:
    """The same object with other sentences, at any depth."""
    if isinstance(value, dict):
        return {name: REWORDED if name == "message" else reworded(one) for name, one in value.items()}
    return [reworded(one) for one in value] if isinstance(value, list) else value


def row(body: Body) -> list[str]:
    """The cells of `modeldeploy get`, but for the message."""
    table = table_of([Rollout.from_body(body)], with_namespace=False)
    return [str(next(iter(column.cells))) for column in table.columns if column.header != "MESSAGE"]


async def retry_asked() -> Body:
    """A person asks, and the operator has not read it yet."""
    world = World()
    key = await fast_bad(world, GATEWAY)
    annotate(world, key, "retry", f"{world.status(key)['abortedRevision']}@1")
    return body_of(world, key)


async def undo_asked() -> Body:
    world = World()
    key = await live(world, GATEWAY)
    annotate(world, key, "undo", "nothing@1")
    return body_of(world, key)


async def undo_ignored() -> Body:
    world = World()
    key = await live(world, GATEWAY)
    annotate(world, key, "undo", "nothing@1")
    await world.run(key)
    return body_of(world, key)


async def retry_ignored() -> Body:
    world = World()
    key = await fast_bad(world, GATEWAY)
    annotate(world, key, "retry", "nothing@1")
    await world.run(key)
    return body_of(world, key)


@pytest.mark.parametrize(
    ("story", "exit_status", "phase", "step", "weight", "ready"),
    [
        pytest.param(created, 2, "Pending", "", "", "no", id="created, and not read by the operator yet"),
        pytest.param(starting, 2, "Pending", "", "", "no", id="the first revision is starting"),
        pytest.param(healthy, 0, "Healthy", "", "", "yes", id="the first revision is live"),
        pytest.param(changed, 2, "Healthy", "", "", "yes", id="a new spec that the operator has not read"),
        pytest.param(paused, 2, "Paused", "2/2", "20%", "no", id="a rollout waits for a person"),
        pytest.param(promoted, 0, "Healthy", "", "", "yes", id="a rollout was promoted"),
        pytest.param(first_failed, 1, "Degraded", "", "", "no", id="the first revision cannot serve"),
        pytest.param(rolled_back, 1, "Degraded", "", "", "no", id="a rollout went back"),
        pytest.param(retry_asked, 2, "Degraded", "", "", "no", id="a retry that the operator has not read"),
        pytest.param(undo_asked, 2, "Healthy", "", "", "yes", id="an undo that the operator has not read"),
        pytest.param(undo_ignored, 0, "Healthy", "", "", "yes", id="an undo that has no effect"),
        pytest.param(retry_ignored, 1, "Degraded", "", "", "no", id="a retry that has no effect"),
    ],
)
async def test_a_state(
    story: Callable[[], Awaitable[Body]], exit_status: int, phase: str, step: str, weight: str, ready: str
) -> None:
    body = await story()
    for one in (body, reworded(body)):
        cells = row(one)
        assert STATUS_OF[Rollout.from_body(one).verdict] == exit_status
        assert (cells[1], cells[2], cells[3], cells[-1]) == (phase, step, weight, ready)
    assert row(reworded(body)) == row(body)


async def test_what_is_ignored_is_a_list_beside_the_condition() -> None:
    body = await undo_ignored()
    (ignored,) = body["status"]["ignoredAnnotations"]
    condition = next(one for one in body["status"]["conditions"] if one["type"] == "AnnotationsAccepted")
    assert (ignored["name"], ignored["value"]) == ("modeldeploy.dev/undo", "nothing@1")
    assert all(text in condition["message"] for text in ignored.values())
    assert "ignoredAnnotations" not in (await healthy())["status"], "the list goes with the annotation"


async def judged() -> Body:
    found = await rollout()
    await found.serve(stable=(1, 2), canary=(3, 2))
    return body_of(found.world, found.key)


async def compared() -> Body:
    found = await mirrored()
    await answer(found, 100, differing=8)
    return body_of(found.world, found.key)


@pytest.mark.parametrize(
    ("story", "lines"),
    [
        pytest.param(
            judged,
            [
                "errors  Undecided  canary 3 of 100 (3.00%)  stable 1 of 100 (1.00%)"
                "  E 1.19 of 60 ░░░░░░░░░░  needs about 98 more requests",
                "refusals  Undecided  canary 0 of 100 (0.00%)  stable 0 of 100 (0.00%)  E 1 of 60 ░░░░░░░░░░",
                "latency above 250 ms  Undecided  canary 2 of 100 (2.00%)  stable 2 of 100 (2.00%)"
                "  E 0.458 of 60 ░░░░░░░░░░",
            ],
            id="counters of both revisions",
        ),
        pytest.param(
            compared,
            [
                "shadow-agreement  Undecided  value 0.92  min 0.95  100 mirrored requests"
                "  E 0.919 of 20 ░░░░░░░░░░  needs about 149 more requests"
            ],
            id="answers of both revisions",
        ),
    ],
)
async def test_a_rollout_that_is_judged(story: Callable[[], Awaitable[Body]], lines: list[str]) -> None:
    body = await story()
    for one in (body, reworded(body)):
        assert [evidence_line(metric) for metric in Rollout.from_body(one).metrics] == lines
    assert JudgedRollout.from_body(reworded(body)).points == JudgedRollout.from_body(body).points


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "a latency without answers",
            ["latency  Undecided  canary 0 of 0 (0.00%)  stable 0 of 0 (0.00%)  E 1 of 20 ░░░░░░░░░░"],
        ),
        (
            "feedback",
            [
                "accuracy  Undecided  canary 0.9028  stable 0.9444  labels 144 and 108  E 0.701 of 80 ░░░░░░░░░░",
                "f1  Undecided  canary 0.9381  stable 0.9928  labels 60 and 70  E 0 of 80 ░░░░░░░░░░",
                "log-loss  Undecided  canary 0.2333  stable 0.05  labels 3 and 2"
                "  E 1 of 80 ░░░░░░░░░░  needs about 48 more labels",
                "recall  Undecided  labels 0 and 0  E 1 of 80 ░░░░░░░░░░  needs about 50 more labels",
            ],
        ),
        (
            "shift",
            [
                "prediction-shift  Undecided  value 0.3799 ± 0.13  max 0.2  answers 228 and 731"
                "  needs about 114 more answers"
            ],
        ),
        (
            "guards",
            [
                "cpu  Pass  value 0.5  out of bounds in 0 of 1 intervals (0 allowed)",
                "revenue  Undecided  out of bounds in 1 of 1 intervals (2 allowed)",
            ],
        ),
        (
            "guards without an answer",
            [
                "cpu  Fail  value 0.95  out of bounds in 1 of 1 intervals (0 allowed)",
                "revenue  Undecided  no answer",
            ],
        ),
        (
            "a test counted by Prometheus",
            [
                "errors  Undecided  canary 0 of 0 (0.00%)  stable 0 of 0 (0.00%)  E 1 of 40 ░░░░░░░░░░",
                "refusals  Undecided  canary 0 of 0 (0.00%)  stable 0 of 0 (0.00%)  E 1 of 40 ░░░░░░░░░░",
                "revenue  Undecided  canary 0.15  stable 0.122  labels 80 and 82  users 66 and 61"
                "  E 1.07 of 40 ░░░░░░░░░░  needs about 20 more labels",
            ],
        ),
    ],
)
def test_every_kind_of_metric(name: str, lines: list[str]) -> None:
    found = next(one for one in ROWS if one["name"] == name)
    judged_by = spec_of(found)
    entries = metric_entries(judged_by, verdict(judged_by, from_status(judged_by, found)))
    assert [evidence_line(metric) for metric in reworded(entries)] == lines


async def test_only_the_message_is_reworded() -> None:
    """The test of the tests: sentences do reach the screen."""
    console = Console(width=300)
    with console.capture() as capture:
        console.print(table_of([Rollout.from_body(reworded(await paused()))], with_namespace=False))
    assert REWORDED in capture.get()


async def test_what_the_operator_reports_of_servers_is_what_outdated_lists() -> None:
    world = World()
    key = await live(world, GATEWAY)
    rollout = Rollout.from_body(body_of(world, key))
    assert not outdated_of([rollout], with_namespace=False).row_count
    world.settings = PodSettings(image="server:2")
    world.start_operator()
    await world.run(key)
    rollout = Rollout.from_body(body_of(world, key))
    table = outdated_of([rollout], with_namespace=True)
    cells = [str(next(iter(column.cells))) for column in table.columns]
    assert cells == ["default", "fraud", rollout.stable, "server", "server:2", "image"]
