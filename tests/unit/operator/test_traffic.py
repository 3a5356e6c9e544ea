"""Whether counted requests agree with a weight."""

import pytest

from model_operator.policy.observed import Traffic
from model_operator.policy.traffic import is_split_right, observed_percent


@pytest.mark.parametrize(
    ("stable", "canary", "percent", "right"),
    [
        pytest.param(95, 5, 5, True, id="just as configured"),
        pytest.param(950, 62, 5, True, id="within what chance does"),
        pytest.param(100, 100, 5, False, id="half is not five percent"),
        pytest.param(1000, 0, 5, False, id="the router ignores the canary"),
        pytest.param(20, 0, 5, None, id="too few requests to tell"),
        pytest.param(100, 0, 0, True, id="nothing at weight 0"),
        pytest.param(100, 1, 0, False, id="one stray request at weight 0"),
        pytest.param(0, 100, 100, True, id="everything at weight 100"),
    ],
)
def test_is_split_right(stable: int, canary: int, percent: int, *, right: bool | None) -> None:
    assert is_split_right(Traffic(stable=stable, canary=canary), percent) is right


def test_silence_says_nothing() -> None:
    assert is_split_right(None, 5) is None
    assert observed_percent(None) is None
    assert observed_percent(Traffic()) is None


def test_observed_percent() -> None:
    assert observed_percent(Traffic(stable=752, canary=48)) == 6.0
