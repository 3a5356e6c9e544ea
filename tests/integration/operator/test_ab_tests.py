"""A/B tests in virtual time: users stay, a winner goes live, a loser leaves, and no word is said too early."""

from datetime import timedelta
from typing import Any

import pytest
from rollout_actions import GATEWAY, NEXT, annotate, at_phase, live, storage
from rollout_world import World

from model_operator.api.resource import ObjectKey
from model_operator.api.sums import SumStats
from model_operator.api.values import replace
from model_operator.clients.metrics_page import Sample
from model_operator.errors import ProviderError

TEST = {"metric": "conversion", "minimumSampleSize": 1000, "method": "zTest", "maxDuration": "2h"}
PROMETHEUS = {
    "address": "http://prometheus:9090",
    "query": 'sum(increase(bought{model="{{name}}", revision="{{revision}}"}[{{range}}]))',
    "sampleQuery": 'sum(increase(seen{revision="{{revision}}"}[{{range}}]))',
}


class Test:
    """An A/B test that is on; its pods count what a test says."""

    __test__ = False

    def __init__(self, world: World, key: ObjectKey) -> None:
        self.world, self.key = world, key
        self.stable, self.canary = self.status["stableRevision"], self.status["canaryRevision"]
        self._counts = {name: Sample(model=None, requests=0, errors=0) for name in (self.stable, self.canary)}

    @property
    def status(self) -> Any:
        return self.world.status(self.key)

    @property
    def metric(self) -> Any:
        return self.status["analysis"]["metrics"][-1]

    async def users(self, *, canary: tuple[int, int], stable: tuple[int, int], drawn: int | None = None) -> None:
        """Users come in one interval: (how many, how many of them convert); `drawn` are those of the canary."""
        for revision, (count, converted) in ((self.canary, canary), (self.stable, stable)):
            before = self._counts[revision]
            known = before.quality.get("conversion", SumStats())
            wrong = known.total + count - converted
            self._counts[revision] = replace(
                before,
                requests=before.requests + 3 * count,
                assigned=before.assigned + (drawn if drawn is not None and revision == self.canary else count),
                quality={"conversion": SumStats(count=known.count + count, total=wrong, squares=wrong)},
            )
        await self.interval()

    async def interval(self, seconds: int = 16) -> None:
        """Let an interval pass in which the pods counted what they have counted."""
        self.world.pods.samples = dict(self._counts)
        self.world.clock.advance(timedelta(seconds=seconds))
        self.world.sync()
        await self.world.evidence.poll()
        await self.world.operate(self.key)
        self.world.cluster.tick()
        await self.world.operate(self.key)


async def ab_test(**more: Any) -> Test:
    world = World()
    key = await live(world, {"abTest": {**TEST, "trafficRouting": GATEWAY, **more}}, replicas=1)
    world.cluster.change(key, storage(NEXT))
    await world.run(key, until=lambda w: w.status(key).get("currentStepIndex") == 1)
    test = Test(world, key)
    await test.interval()
    return test


def route_rules(test: Test) -> Any:
    return test.world.cluster.get("HTTPRoute", test.key)["spec"]["rules"]


async def test_users_are_sent_back_to_the_revision_that_was_drawn_for_them() -> None:
    test = await ab_test(weight=30, stickiness={"cookie": "who"})
    to_canary, to_stable, split = route_rules(test)
    assert to_canary["matches"][0]["headers"][0]["value"] == f"^(.*; *)?who={test.canary}(;.*)?$"
    assert to_stable["backendRefs"][0]["name"] == f"fraud-{test.stable}"
    assert [ref["weight"] for ref in split["backendRefs"]] == [70, 30]
    assert "Max-Age=7200" in split["backendRefs"][1]["filters"][1]["responseHeaderModifier"]["add"][0]["value"]


async def test_the_winner_goes_live_and_history_has_the_numbers() -> None:
    test = await ab_test()
    await test.users(canary=(600, 90), stable=(600, 60))
    assert test.status["phase"] == "Progressing"
    assert "no verdict before 1000 of each (400 are missing)" in test.status["message"]
    test.world.start_operator()  # what was counted is remembered
    await test.interval()
    await test.users(canary=(600, 90), stable=(600, 60))
    await test.world.run(test.key)
    assert at_phase("Healthy")(test.world)
    entry = test.status["history"][0]
    assert (entry["revision"], entry["result"], entry["reason"]) == (test.canary, "Promoted", "AbTestWon")
    assert entry["message"].startswith("conversion: canary 0.1500 of 1200 answers, stable 0.1000 of 1200, z ")
    assert len(route_rules(test)) == 1, "nobody is sent anywhere by a cookie any more"


async def test_the_loser_leaves() -> None:
    test = await ab_test(method="sequential")
    for _ in range(4):
        await test.users(canary=(400, 40), stable=(400, 80))
    await test.world.run(test.key)
    assert at_phase("Degraded")(test.world)
    assert test.status["rollback"]["reason"] == "AbTestLost"
    assert "the canary is worse" in test.status["rollback"]["message"]
    assert len(route_rules(test)) == 1


async def test_errors_end_a_test_whatever_users_like() -> None:
    test = await ab_test()
    for revision, errors in ((test.canary, 300), (test.stable, 0)):
        test._counts[revision] = replace(test._counts[revision], requests=1000, errors=errors)
    await test.interval()
    await test.world.run(test.key)
    assert test.status["rollback"]["reason"] == "AnalysisFailed"


@pytest.mark.parametrize(
    ("choice", "phase"),
    [
        pytest.param("Promote", "Healthy", id="promoted all the same"),
        pytest.param("Abort", "Degraded", id="aborted"),
    ],
)
async def test_without_a_winner_the_spec_decides(choice: str, phase: str) -> None:
    test = await ab_test(onInconclusive=choice)
    await test.users(canary=(1000, 100), stable=(1000, 101))
    await test.world.run(test.key)
    assert at_phase(phase)(test.world)
    assert test.status["stableRevision"] == (test.canary if choice == "Promote" else test.stable)


async def test_without_a_winner_a_person_decides() -> None:
    test = await ab_test()
    await test.users(canary=(1000, 100), stable=(1000, 101))
    assert test.status["phase"] == "Paused"
    assert test.status["pauseConditions"][0]["reason"] == "NoDifference"
    assert "z -0.07: no difference" in test.status["message"]
    annotate(test.world, test.key, "promote", test.canary)
    await test.world.run(test.key)
    assert test.status["history"][0]["reason"] == "AllStepsDone"


async def test_a_test_that_takes_too_long_has_no_winner() -> None:
    test = await ab_test(maxDuration="10m")
    await test.users(canary=(20, 2), stable=(20, 2))
    await test.interval(seconds=700)
    assert test.status["pauseConditions"][0]["reason"] == "NoDifference"


async def test_a_broken_split_pauses_and_its_winner_is_not_believed() -> None:
    test = await ab_test()
    await test.users(canary=(1000, 200), stable=(1000, 100), drawn=300)
    assert test.status["phase"] == "Paused"
    assert test.status["pauseConditions"][0]["reason"] == "SampleRatioMismatch"
    assert test.status["weights"]["verified"] is False
    assert test.metric["verdict"] == "SampleRatioMismatch"
    assert "300 of 1300 users" in test.metric["message"]
    await test.interval(seconds=300)
    assert [ref["weight"] for ref in route_rules(test)[-1]["backendRefs"]] == [50, 50], "users stay where they are"


async def test_prometheus_counts_the_answers_of_both() -> None:
    test = await ab_test(metric="revenue", prometheus=PROMETHEUS)
    await test.users(canary=(500, 0), stable=(500, 0))
    test.world.values.answer = ProviderError("http://prometheus:9090 did not answer within 10 s")
    await test.interval()
    assert "A/B test holds: revenue: http://prometheus:9090 did not answer" in test.status["message"]
    test.world.values.answer = 1200.0
    await test.interval()
    queries = {source.query for source in test.world.values.asked}
    assert any(f'bought{{model="fraud", revision="{test.canary}"}}' in str(query) for query in queries)
    assert any(f'seen{{revision="{test.stable}"}}' in str(query) for query in queries)
    assert test.metric["labels"] == {"canary": 1200, "stable": 1200}
    assert test.metric["verdict"] == "NoDifference", "all of them bought something"
