"""Counters of pods become evidence in status, whoever restarts meanwhile."""

import copy
from typing import Any

import pytest
from judged_rollout import ANALYSIS, BLUE_GREEN, CANARY, rollout
from rollout_actions import GATEWAY, at_phase

from model_operator.api.inputs import InputSample
from model_operator.clients.metrics_page import Sample


async def test_a_good_canary_passes_and_status_says_why() -> None:
    canary = await rollout()
    await canary.serve(stable=(1, 2), canary=(0, 1))
    errors, _, latency = canary.status["analysis"]["metrics"]
    assert errors["verdict"] == "Pass"
    assert errors["requests"]["canary"] >= 100
    assert latency["threshold"] == 0.25
    assert canary.status["analysis"]["phase"] == "Passed"
    await canary.world.run(canary.key)
    assert at_phase("Healthy")(canary.world)
    assert canary.status["stableRevision"] == canary.canary


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        pytest.param((20, 0, 0), "errors: canary", id="errors"),
        pytest.param((0, 60, 0), "latency above 250 ms: canary", id="slowness"),
        pytest.param((0, 0, 40), "refusals: canary", id="refusals of what stable answers"),
    ],
)
async def test_a_worse_canary_goes_back_with_the_numbers(bad: tuple[int, int, int], why: str) -> None:
    canary = await rollout()
    for _ in range(9):
        await canary.serve(stable=(1, 1, 1), canary=bad)
        if at_phase("RollingBack", "Degraded")(canary.world):
            break
    await canary.world.run(canary.key)
    assert at_phase("Degraded")(canary.world)
    assert canary.status["rollback"]["reason"] == "AnalysisFailed"
    assert why in canary.status["rollback"]["message"]


async def test_requests_that_both_refuse_are_no_evidence() -> None:
    canary = await rollout()
    for _ in range(3):
        await canary.serve(stable=(0, 0, 30), canary=(0, 0, 30))
    await canary.world.run(canary.key)
    assert at_phase("Healthy")(canary.world)


async def test_a_canary_is_not_compared_with_a_server_that_does_not_count_refusals() -> None:
    canary = await rollout()
    canary.without_refusals = {canary.stable}
    for _ in range(3):
        await canary.serve(stable=(0, 0), canary=(0, 0, 60))
    await canary.world.run(canary.key)
    assert at_phase("Healthy")(canary.world)


async def test_a_canary_to_which_requests_look_strange_goes_back_with_the_numbers() -> None:
    judged: dict[str, Any] = copy.deepcopy(CANARY)
    judged["canary"]["analysis"]["metrics"] = [{"name": "data-quality", "fail": {}}]
    canary = await rollout(judged)
    for number in range(1, 15):
        for revision, bad in ((canary.stable, 2), (canary.canary, 40)):
            inputs = InputSample(requests=100 * number, bad=bad * number)
            canary.world.pods.samples[revision] = Sample(model=None, requests=100 * number, errors=0, inputs=inputs)
        await canary.look()
        if at_phase("RollingBack", "Degraded")(canary.world):
            break
    await canary.world.run(canary.key)
    assert at_phase("Degraded")(canary.world)
    message = canary.status["rollback"]["message"]
    assert message.startswith("data-quality: canary ")
    assert "(40.00%), stable " in message


async def test_evidence_survives_the_operator() -> None:
    canary = await rollout()
    await canary.serve(stable=(1, 2), canary=(1, 2))
    before = canary.status["analysis"]["metrics"]
    canary.world.start_operator()
    canary.world.sync()
    await canary.world.evidence.poll()
    await canary.world.operate(canary.key)
    assert canary.status["analysis"]["metrics"] == before, "what was known is known"
    await canary.serve(stable=(0, 0), canary=(0, 0))
    (after, *_), (known, *_) = canary.status["analysis"]["metrics"], before
    assert after["requests"]["canary"] > known["requests"]["canary"]
    assert after["bad"] == known["bad"]


async def test_time_that_is_over_ends_as_the_spec_says() -> None:
    canary = await rollout()
    canary.world.cluster.change(
        canary.key, lambda body: body["spec"]["strategy"]["canary"]["analysis"].update(onInconclusive="Abort")
    )
    for _ in range(3):
        await canary.serve(seconds=240, stable=(5, 5), canary=(5, 5))
    await canary.world.run(canary.key)
    assert at_phase("Degraded")(canary.world)
    assert canary.status["rollback"]["reason"] == "AnalysisInconclusive"


async def test_the_trail_tells_how_the_evidence_grew() -> None:
    canary = await rollout()
    for _ in range(3):
        await canary.serve(stable=(1, 2), canary=(3, 2))
    trail = canary.status["analysis"]["samples"]
    counted = [point["metrics"]["errors"]["counts"][0] for point in trail if point["weight"] == 50]
    assert counted == sorted(set(counted))
    assert counted[-1] == canary.status["analysis"]["metrics"][0]["requests"]["canary"]
    assert [point["at"] for point in trail] == sorted({point["at"] for point in trail})
    assert trail[-1]["metrics"]["errors"]["evidence"] > trail[0]["metrics"]["errors"]["evidence"]


async def test_a_blue_green_rollout_waits_for_the_proof() -> None:
    preview = await rollout(BLUE_GREEN)
    await preview.world.run(preview.key)
    assert at_phase("Progressing")(preview.world), "no request on the preview, no proof"
    await preview.serve(stable=(1, 2), canary=(0, 1))
    await preview.world.run(preview.key)
    assert at_phase("Healthy")(preview.world)
    assert preview.status["stableRevision"] == preview.canary


async def test_a_worse_preview_goes_back_before_any_traffic() -> None:
    preview = await rollout(BLUE_GREEN)
    for _ in range(6):
        await preview.serve(stable=(1, 1), canary=(20, 0))
    await preview.world.run(preview.key)
    assert at_phase("Degraded")(preview.world)
    assert preview.status["rollback"]["reason"] == "AnalysisFailed"
    front = preview.world.cluster.get("Service", preview.key)
    assert front["spec"]["selector"]["modeldeploy.dev/revision"] == preview.stable


async def test_after_the_proof_a_person_promotes_where_the_spec_says_so() -> None:
    preview = await rollout({"blueGreen": {"autoPromote": False, "analysis": ANALYSIS}})
    await preview.serve(stable=(1, 2), canary=(0, 1))
    await preview.world.run(preview.key)
    assert preview.status["pauseConditions"][0]["reason"] == "PauseStep"
    assert preview.status["step"] == "2/2"


async def test_a_canary_split_by_pods_is_looked_at_once_in_an_interval() -> None:
    canary = await rollout()
    queue = canary.world.queue
    await canary.serve(stable=(1, 2), canary=(8, 2))
    queue.done(await queue.get())
    for _ in range(7):
        await canary.serve(seconds=2, stable=(1, 2), canary=(8, 2))
    assert len(queue) == 0, "14 of 15 seconds are over"
    await canary.serve(seconds=2, stable=(1, 2), canary=(8, 2))
    assert len(queue) == 1


async def test_a_spec_that_is_not_understood_stops_no_look_at_others() -> None:
    canary = await rollout()
    before = canary.status["analysis"]["metrics"][0].get("requests")
    other = canary.world.cluster.create("other", {"model": {"storageUri": "s3://models/1"}, "strategy": {"magic": {}}})
    canary.world.cluster.change(other, lambda body: body.update(status={"canaryRevision": "x"}))
    await canary.serve(stable=(0, 0), canary=(0, 0))
    assert canary.status["analysis"]["metrics"][0]["requests"] != before


async def test_all_traffic_can_be_judged_while_the_old_revision_is_kept() -> None:
    strategy: dict[str, Any] = copy.deepcopy(CANARY)
    strategy["canary"] |= {"steps": [{"setWeight": 100}, {"analysis": {}}], "trafficRouting": GATEWAY}
    strategy["canary"]["analysis"]["metrics"] = [{"name": "errors", "max": 0.02, "pass": {"orMax": 0.01}}]
    canary = await rollout(strategy)
    assert canary.status["weights"]["applied"] == 100
    assert len(canary.world.cluster.pods(canary.stable)) == 2, "traffic can go back at once"
    for answered in (100, 200, 300, 400):
        bad = Sample(model=None, requests=answered, errors=answered // 10)
        canary.world.pods.samples = {canary.stable: Sample(model=None, requests=0, errors=0), canary.canary: bad}
        await canary.look()
        if at_phase("RollingBack", "Degraded")(canary.world):
            break
    await canary.world.run(canary.key)
    assert canary.status["rollback"]["reason"] == "AnalysisFailed"
    (route,) = canary.world.cluster.of_kind("HTTPRoute")
    (backend,) = [ref for ref in route["spec"]["rules"][-1]["backendRefs"] if ref["weight"]]
    assert backend["name"].endswith(canary.stable)
