"""The parts of a rollout's page: bounds of a rate, axes, times."""

import math
import random

import pytest

from modeldeploy.report.chart import Axis, clock
from modeldeploy.report.confidence import confidence_sequence


def test_without_requests_nothing_is_known() -> None:
    assert confidence_sequence(0, 0) == (0.0, 1.0)


def mixture_ratio(trials: int, bad: int, rate: float) -> float:
    """Return the mixture's likelihood over that of one rate, by summation: over Beta(1/2, 1/2) the angle is uniform."""

    def log_likelihood(p: float) -> float:
        return bad * math.log(p) + (trials - bad) * math.log1p(-p)

    parts = 20_000
    rates = (math.sin((i + 0.5) / parts * math.pi / 2) ** 2 for i in range(parts))
    return sum(math.exp(log_likelihood(p) - log_likelihood(rate)) for p in rates) / parts


@pytest.mark.parametrize(("trials", "bad"), [(100, 1), (1000, 50), (40, 39)])
def test_the_bounds_are_where_the_mixture_is_twenty_times_as_likely(trials: int, bad: int) -> None:
    low, high = confidence_sequence(trials, bad)
    assert low < bad / trials < high
    assert [mixture_ratio(trials, bad, bound) for bound in (low, high)] == pytest.approx([20, 20], rel=1e-3)


def test_an_extreme_rate_that_was_seen_stays_possible() -> None:
    assert confidence_sequence(100, 0)[0] == 0
    assert confidence_sequence(100, 100)[1] == 1


def test_the_bounds_hold_at_all_looks_at_once() -> None:
    chance, runs, missed = random.Random(7), 100, 0
    for _ in range(runs):
        bad = 0
        for look in range(1, 21):
            bad += sum(chance.random() < 0.05 for _ in range(50))
            low, high = confidence_sequence(50 * look, bad)
            if not low <= 0.05 <= high:
                missed += 1
                break
    assert missed / runs <= 0.05


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        pytest.param(Axis(low=0, high=100), [0, 20, 40, 60, 80, 100], id="percent"),
        pytest.param(Axis(low=0, high=0.013), [0, 0.005, 0.01], id="small values"),
        pytest.param(Axis(low=0.01, high=400, is_log=True), [0.01, 0.1, 1, 10, 100], id="powers of ten"),
        pytest.param(Axis(low=0, high=0), [0], id="nothing but zero"),
    ],
)
def test_ticks_are_round_and_within(axis: Axis, ticks: list[float]) -> None:
    assert list(axis.ticks()) == pytest.approx(ticks)


def test_what_is_beyond_an_axis_is_at_its_edge() -> None:
    assert [Axis(low=0, high=10).share(value) for value in (-1, 5, 11)] == [0, 0.5, 1]


@pytest.mark.parametrize(("seconds", "told"), [(0, "0s"), (45.4, "45s"), (120, "2m"), (150, "2m30s"), (3900, "1h05m")])
def test_times_are_told_shortly(seconds: float, told: str) -> None:
    assert clock(seconds) == told
