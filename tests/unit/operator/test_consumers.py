"""Which revisions consume messages: those that requests go to."""

import pytest

from model_operator.api.traffic import TrafficSplit
from model_operator.policy.decide import Plan
from model_operator.rendering import consuming_revisions

STABLE, CANARY = "old", "new"


def a_plan(front: str | None, weight: int, canary: str = CANARY, **sizes: int) -> Plan:
    split = TrafficSplit(stable=STABLE, canary=canary, weight=weight)
    return Plan(target=CANARY, sizes=sizes or {STABLE: 3, CANARY: 1}, kept=["older"], front=front, split=split)


@pytest.mark.parametrize(
    ("plan", "consuming"),
    [
        pytest.param(a_plan(STABLE, 0, canary="", old=3), [STABLE], id="outside of a rollout it is stable"),
        pytest.param(a_plan(STABLE, 0), [STABLE], id="a canary at weight 0 does not consume"),
        pytest.param(a_plan(STABLE, 5), [CANARY, STABLE], id="a canary with a weight at the router does"),
        pytest.param(a_plan(None, 25), [CANARY, STABLE], id="pods are the split: both do"),
        pytest.param(a_plan(None, 0, old=3, new=0), [STABLE], id="a revision without pods does not"),
        pytest.param(a_plan(CANARY, 100), [CANARY], id="the front Service leads to the one that consumes"),
    ],
)
def test_requests_and_messages_go_to_the_same_revisions(plan: Plan, consuming: list[str]) -> None:
    assert consuming_revisions(plan) == consuming
