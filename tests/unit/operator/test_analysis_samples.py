"""The record of how evidence grew."""

from datetime import UTC, datetime, timedelta
from typing import Any

from model_operator.policy.status.analysis_samples import MAX_SAMPLES, append_sample

START = datetime(2026, 1, 1, tzinfo=UTC)


def errors(bad: int) -> dict[str, Any]:
    sides = {"requests": {"canary": 100, "stable": 900}, "bad": {"canary": bad, "stable": 1}}
    return {"name": "errors", "verdict": "Undecided", "evidence": 0.5, **sides, "state": {"fail": [0.0]}}


def grown(looks: int) -> list[Any]:
    """Return a trail of so many looks, ten under each weight."""
    trail: Any = ()
    for look in range(looks):
        now = START + timedelta(seconds=look)
        trail = append_sample(trail, weight=look // 10, metrics=[errors(look)], now=now)
    return list(trail)


def test_a_point_has_the_numbers_and_not_the_judge_s_memory() -> None:
    (point,) = append_sample((), weight=5, metrics=[errors(2), {"name": "guard", "value": 0.9, "looks": 3}], now=START)
    assert point == {
        "at": "2026-01-01T00:00:00.000000Z",
        "weight": 5,
        "metrics": {"errors": {"counts": [100, 2, 900, 1], "evidence": 0.5}, "guard": {"value": 0.9}},
    }


def test_a_look_that_found_nothing_new_leaves_the_trail_as_it_is() -> None:
    before = append_sample((), weight=5, metrics=[errors(2)], now=START)
    assert append_sample(before, weight=5, metrics=[errors(2)], now=START + timedelta(hours=1)) is before


def test_a_long_rollout_is_kept_from_beginning_to_end_only_coarser() -> None:
    trail = grown(10 * MAX_SAMPLES)
    assert MAX_SAMPLES / 2 < len(trail) <= MAX_SAMPLES
    assert trail[0]["at"] == "2026-01-01T00:00:00.000000Z"
    assert trail[-1]["metrics"]["errors"]["counts"][1] == 10 * MAX_SAMPLES - 1
    assert [point["at"] for point in trail] == sorted(point["at"] for point in trail)


def test_the_first_look_under_each_weight_is_kept() -> None:
    trail = grown(2 * MAX_SAMPLES)
    assert {point["weight"] for point in trail} == set(range(2 * MAX_SAMPLES // 10))
    assert {point["metrics"]["errors"]["counts"][1] for point in trail} >= set(range(0, 2 * MAX_SAMPLES, 10))
