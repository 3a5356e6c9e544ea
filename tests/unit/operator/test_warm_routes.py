"""The first weight of a canary waits for a router that knows it, and not for ever."""

from datetime import timedelta
from typing import Any

import pytest
from decision_tables import BOTH, JUST_NOW, NOW, decided, observed, resource, rolling

from model_operator.api.status import Weights
from model_operator.api.traffic import RouteView
from model_operator.api.values import replace
from model_operator.policy.rollout.context import RolloutContext
from model_operator.policy.rollout.requeue import requeue_after
from model_operator.policy.rollout.routing import split_of

KNOWN, UNKNOWN = RouteView(weight=0), RouteView(weight=0, is_warm=False)


def before(seconds: float) -> Any:
    return NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("weights", "route", "facts", "applied"),
    [
        pytest.param({}, UNKNOWN, {}, 0, id="a router that has not seen the canary"),
        pytest.param({}, KNOWN, {}, 0, id="one that has just seen it may still be building the backend"),
        pytest.param({"programmed_at": before(1)}, KNOWN, {}, 0, id="for two seconds"),
        pytest.param({"programmed_at": before(2)}, KNOWN, {}, 25, id="and no longer"),
        pytest.param({}, UNKNOWN, {"progressed_at": before(11)}, 25, id="one that does not answer is not waited for"),
        pytest.param({"applied": 10, "applied_at": JUST_NOW}, UNKNOWN, {}, 25, id="a canary with weight is known"),
    ],
)
def test_the_first_weight(weights: dict[str, Any], route: RouteView, facts: dict[str, Any], applied: int) -> None:
    status = rolling(0, 0, **{"weights": Weights(**{"desired": 25, **weights}), **facts})
    assert decided(status, observed(*BOTH, route=route)).weights.applied == applied


@pytest.mark.parametrize(
    ("routing", "applied"),
    [
        pytest.param(
            {"gatewayAPI": {"parentRefs": [{"name": "public"}]}, "propagationSeconds": 1}, 0, id="its own time"
        ),
        pytest.param({"gatewayAPI": {"parentRefs": [{"name": "public"}]}, "propagationSeconds": 0}, 25, id="no time"),
        pytest.param(None, 25, id="a split by pods"),
    ],
)
def test_a_router_that_needs_less_time_is_given_less(routing: dict[str, Any] | None, applied: int) -> None:
    status = rolling(0, 0, weights=Weights(desired=25))
    found = decided(status, observed(*BOTH, route=KNOWN), canary={"trafficRouting": routing} if routing else _BY_PODS)
    assert found.weights.applied == applied


_BY_PODS: dict[str, Any] = {"trafficRouting": None}


@pytest.mark.parametrize(
    ("route", "seconds"),
    [pytest.param(KNOWN, 2, id="the time of the backend"), pytest.param(UNKNOWN, 9, id="the patience")],
)
def test_the_next_pass_is_at_the_end_of_the_wait(route: RouteView, seconds: float) -> None:
    status = decided(rolling(0, 0, weights=Weights(desired=25)), observed(*BOTH, route=route))
    context = RolloutContext(resource=resource(status), status=status, observed=observed(*BOTH, route=route), now=NOW)
    wait = requeue_after(context)
    assert wait is not None
    assert wait.total_seconds() == pytest.approx(seconds, abs=0.01)


def test_the_header_of_the_rule_is_of_this_rollout_and_gone_with_the_canary() -> None:
    def split(**facts: Any) -> Any:
        status = rolling(0, 0, **facts)
        return split_of(RolloutContext(resource=resource(status), status=status, observed=observed(*BOTH), now=NOW))

    assert len(split().warm_value) == 32
    assert split().warm_value == split().warm_value
    assert split(canary="").warm_value == ""


def test_nobody_makes_the_header_from_names() -> None:
    """Names and revisions are told outside, in metrics and answers; the UID is random, and told nowhere there."""
    status = rolling(0, 0)
    values = set()
    for uid in ("6f6cbd8a-0c3b-4f0f-9a53-2f6a0f5e7a11", "0d9f3c1e-5a86-4d0e-8a0b-7d3c4a1b2f60"):
        owner = replace(resource(status), uid=uid)
        split = split_of(RolloutContext(resource=owner, status=status, observed=observed(*BOTH), now=NOW))
        assert uid not in split.warm_value
        values.add(split.warm_value)
    assert len(values) == 2
