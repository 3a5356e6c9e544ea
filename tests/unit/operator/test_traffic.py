"""Whether counted requests agree with a weight."""

import numpy as np
import pytest

from model_operator.observation.values import Traffic
from model_operator.policy.analysis.split_verification import is_split_right, observed_percent


@pytest.mark.parametrize(
    ("stable", "canary", "percent", "right"),
    [
        pytest.param(95, 5, 5, True, id="just as configured"),
        pytest.param(950, 62, 5, True, id="within what chance does"),
        pytest.param(100, 100, 5, False, id="half is not five percent"),
        pytest.param(1000, 0, 5, False, id="the router ignores the canary"),
        pytest.param(20, 0, 5, None, id="too few requests to tell"),
        pytest.param(1000, 27, 5, None, id="doubtful at one look, but there are many"),
        pytest.param(100, 0, 0, True, id="nothing at weight 0"),
        pytest.param(100, 1, 0, False, id="one stray request at weight 0"),
        pytest.param(0, 100, 100, True, id="everything at weight 100"),
    ],
)
def test_is_split_right(stable: int, canary: int, percent: int, *, right: bool | None) -> None:
    assert is_split_right(Traffic(stable=stable, canary=canary), percent) is right


def test_a_healthy_router_is_not_blamed_however_often_it_is_looked_at() -> None:
    rng, blamed = np.random.default_rng(1), 0
    for _ in range(50):
        canary = np.cumsum(rng.binomial(40, 0.25, 900))
        looks = (Traffic(canary=int(n), stable=40 * (i + 1) - int(n)) for i, n in enumerate(canary))
        blamed += any(is_split_right(traffic, 25) is False for traffic in looks)
    assert blamed == 0


def test_silence_says_nothing() -> None:
    assert is_split_right(None, 5) is None
    assert observed_percent(None) is None
    assert observed_percent(Traffic()) is None


def test_observed_percent() -> None:
    assert observed_percent(Traffic(stable=752, canary=48)) == 6.0
