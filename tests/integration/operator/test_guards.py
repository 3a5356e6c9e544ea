"""Guards hold, fail and let pass by what a provider says; an outage is neither good nor bad news."""

from datetime import timedelta
from typing import Any

from rollout_actions import NEXT, at_phase, live, storage
from rollout_world import World

from model_operator.api.resource import ObjectKey
from model_operator.errors import ProviderError
from model_operator.observation.values import Outcome

PROMETHEUS = {
    "address": "http://prometheus:9090",
    "query": 'sum(rate(slow{model="{{name}}", revision="{{revision}}"}[{{range}}]))',
}
GUARD = {"name": "slow", "prometheus": PROMETHEUS, "failureCondition": "result > 0.5", "failureLimit": 1}


async def rollout(**analysis: Any) -> tuple[World, ObjectKey]:
    """A canary in its analysis step."""
    world = World()
    block = {"interval": "15s", "warmup": "0s", "providerTimeout": "2m", "metrics": [GUARD], **analysis}
    steps = [{"setWeight": 50}, {"analysis": {"minDuration": "10s", "maxDuration": "1h"}}]
    key = await live(world, {"canary": {"steps": steps, "maxSurge": 1, "analysis": block}})
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=lambda w: w.status(key).get("currentStepIndex") == 1)
    return world, key


async def look(world: World, key: ObjectKey, answer: float | ProviderError | None, *, times: int = 1) -> Any:
    """Let so many intervals pass in which the provider gives this answer."""
    world.values.answer = answer
    for _ in range(times):
        world.clock.advance(timedelta(seconds=16))
        world.sync()
        await world.evidence.poll()
        await world.operate(key)
        world.cluster.tick()
    return world.status(key)


async def test_a_value_within_bounds_passes() -> None:
    world, key = await rollout()
    await look(world, key, 0.1)
    await world.run(key)
    assert at_phase("Healthy")(world)
    (asked, *_) = world.values.asked
    assert asked.query is not None
    assert 'model="fraud"' in asked.query
    assert "{{" not in asked.query


async def test_no_value_is_no_evidence() -> None:
    world, key = await rollout()
    status = await look(world, key, None, times=5)
    assert status["phase"] == "Progressing"
    assert status["analysis"]["metrics"][0]["verdict"] == "Undecided"


async def test_a_value_of_yesterday_passes_nothing() -> None:
    world, key = await rollout()
    verdicts = []
    for answer in (0.1, None):
        world.values.answer = answer
        world.clock.advance(timedelta(seconds=16))
        world.sync()
        await world.evidence.poll()
        resource = world.cache.get_valid(key)
        assert resource is not None
        verdicts.append(world.evidence.verdict(resource).outcome)
    assert verdicts == [Outcome.PASS, Outcome.UNDECIDED]


async def test_more_failures_than_allowed_end_the_rollout() -> None:
    world, key = await rollout()
    status = await look(world, key, 0.9)
    assert status["phase"] == "Progressing", "one failure is allowed"
    await look(world, key, 0.9)
    await world.run(key)
    assert at_phase("Degraded")(world)
    assert world.status(key)["rollback"] == {
        "reason": "AnalysisFailed",
        "message": "slow: 0.9, out of bounds in 2 of 2 intervals (1 allowed)",
    }


async def test_an_outage_holds_then_pauses_and_never_aborts() -> None:
    world, key = await rollout()
    outage = ProviderError("http://prometheus:9090 did not answer within 10 s")
    status = await look(world, key, outage)
    assert status["phase"] == "Progressing"
    (condition,) = [one for one in status["conditions"] if one["type"] == "AnalysisHealthy"]
    assert (condition["status"], condition["reason"]) == ("False", "ProviderError")
    world.start_operator()  # since when it fails is remembered
    status = await look(world, key, outage, times=9)
    assert status["phase"] == "Paused"
    assert status["pauseConditions"][0]["reason"] == "ProviderUnavailable"
    status = await look(world, key, 0.1, times=2)
    await world.run(key)
    assert at_phase("Healthy")(world)


async def test_an_outage_aborts_where_the_spec_says_so() -> None:
    world, key = await rollout(onProviderError="Abort")
    await look(world, key, ProviderError("gone"))
    await world.run(key)
    assert at_phase("Degraded")(world)
    assert world.status(key)["rollback"]["reason"] == "ProviderUnavailable"


async def test_a_condition_that_is_no_comparison_is_named() -> None:
    world, key = await rollout(metrics=[{**GUARD, "failureCondition": "result is bad"}])
    status = await look(world, key, 0.1)
    (condition,) = [one for one in status["conditions"] if one["type"] == "AnalysisHealthy"]
    assert "'result is bad' is invalid; write for example result > 0.98" in condition["message"]


async def test_an_unknown_template_lists_the_known_ones() -> None:
    metrics = [{**GUARD, "prometheus": {**PROMETHEUS, "query": "up{pod='{{pod}}'}"}}]
    world, key = await rollout(metrics=metrics)
    status = await look(world, key, 0.1)
    (condition,) = [one for one in status["conditions"] if one["type"] == "AnalysisHealthy"]
    known = "{{name}}, {{namespace}}, {{range}}, {{revision}}"
    assert f"unknown template {{{{pod}}}}; write one of {known}" in condition["message"]
