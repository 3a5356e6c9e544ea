"""What an API key may ask for: one worker, several workers, and what a limit says."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from model_server.auth import ApiKeyAuth
from model_server.errors import SettingsInvalid, TooManyRequests
from model_server.key_limits import KeyLimit, KeyLimits, keys_of, parse_limits, unlimited
from model_server.shared_values import SharedValues
from model_server.telemetry import Telemetry


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def workers(clock: Clock, count: int, *limits: KeyLimit) -> list[KeyLimits]:
    memory = bytearray(SharedValues.size(count))
    return [KeyLimits(limits, Telemetry(memory, worker), clock) for worker in range(count)]


def admitted(limits: KeyLimits, key: str, tries: int) -> int:
    """How many of so many requests, each of which ends at once, are let in."""
    count = 0
    for _ in range(tries):
        try:
            leave = limits.enter(key)
        except TooManyRequests:
            continue
        count += 1
        leave()
    return count


def counts(limits: KeyLimits) -> dict[str, float]:
    requests, _ = limits.collect()
    return {f"{one.labels['key']} {one.labels['outcome']}": one.value for one in requests.samples if one.value}


def test_a_rate_lets_a_burst_in_and_then_as_many_as_come_back(clock: Clock) -> None:
    (limits,) = workers(clock, 1, KeyLimit(key="a", rate=10, burst=20))
    assert admitted(limits, "a", 50) == 20
    clock.now += 0.5
    assert admitted(limits, "a", 50) == 5
    clock.now += 60
    assert admitted(limits, "a", 50) == 20
    assert counts(limits) == {"a admitted": 45, "a rate": 105}


def test_a_refused_request_says_when_the_next_may_come(clock: Clock) -> None:
    (limits,) = workers(clock, 1, KeyLimit(key="a", rate=0.1, burst=1))
    limits.enter("a")
    with pytest.raises(TooManyRequests, match=r"0\.1 times a second, 1 at once") as refused:
        limits.enter("a")
    assert refused.value.retry_after == 10


def test_requests_at_a_time(clock: Clock) -> None:
    (limits,) = workers(clock, 1, KeyLimit(key="a", concurrency=2))
    leave = limits.enter("a")
    limits.enter("a")
    with pytest.raises(TooManyRequests, match="2 requests answered at a time"):
        limits.enter("a")
    leave()
    limits.enter("a")


def test_workers_share_what_a_key_has(clock: Clock) -> None:
    one, other = workers(clock, 2, KeyLimit(key="a", rate=10, burst=20), KeyLimit(key="b", concurrency=1))
    assert admitted(one, "a", 12) == 12
    assert admitted(other, "a", 50) == 8
    one.enter("b")
    with pytest.raises(TooManyRequests):
        other.enter("b")
    total = 0
    for _ in range(100):
        clock.now += 0.1
        total += admitted(one, "a", 3) + admitted(other, "a", 3)
    assert total == pytest.approx(100, abs=1)


def test_a_worker_that_was_not_asked_gives_no_more_than_a_burst(clock: Clock) -> None:
    one, other = workers(clock, 2, KeyLimit(key="a", rate=10, burst=20))
    for _ in range(1000):
        clock.now += 0.1
        admitted(one, "a", 3)
    assert admitted(other, "a", 50) <= 20


def test_a_worker_that_takes_the_place_of_another_forgets_its_open_requests(clock: Clock) -> None:
    memory = bytearray(SharedValues.size(1))
    limit = KeyLimit(key="a", concurrency=1)
    KeyLimits([limit], Telemetry(memory, 0), clock).enter("a")
    KeyLimits([limit], Telemetry(memory, 0), clock).enter("a")


def test_keys_without_an_entry_are_free_or_share_one(clock: Clock) -> None:
    (free,) = workers(clock, 1, KeyLimit(key="a", rate=1))
    assert free.enter("b") is unlimited
    (shared,) = workers(clock, 1, KeyLimit(key="*", concurrency=1), KeyLimit(key="a", concurrency=1))
    shared.enter("b")
    shared.enter("a")
    with pytest.raises(TooManyRequests):
        shared.enter("c")
    assert counts(shared) == {"* admitted": 1, "* concurrency": 1, "a admitted": 1}


def test_entries_are_read() -> None:
    assert parse_limits(["a:rate=2.5", "b:rate=50:burst=100:concurrency=8", "*:concurrency=1"]) == (
        KeyLimit(key="a", rate=2.5, burst=3),
        KeyLimit(key="b", rate=50, burst=100, concurrency=8),
        KeyLimit(key="*", concurrency=1),
    )


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        pytest.param(["a:rate=0"], "the limit 'a:rate=0' lets nothing in", id="a limit of nothing"),
        pytest.param(["a:rate=1", "a:concurrency=1"], "the API key 'a' has limits twice", id="a key twice"),
    ],
)
def test_entries_that_mean_nothing_are_refused(entries: list[str], message: str) -> None:
    with pytest.raises(SettingsInvalid, match=message):
        parse_limits(entries)


def test_a_limit_for_a_key_that_is_not_there_is_warned_of_until_the_key_comes(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "mobile").write_text("s3cret")
    limited = keys_of(parse_limits(["mobile:rate=5", "nightly:rate=1", "*:concurrency=1"]))
    keys = ApiKeyAuth(tmp_path, clock, limited=limited)
    (warning,) = caplog.messages
    assert "no API key is named 'nightly': the limits for it in spec.server.auth.limits limit nobody" in warning
    assert warning.endswith("the Secret, which has 'mobile'")
    assert "s3cret" not in caplog.text
    caplog.clear()
    (tmp_path / "nightly").write_text("other")
    clock.now += 2
    assert keys.check({b"x-api-key": b"other"}) == "nightly"
    assert not caplog.messages
    (tmp_path / "mobile").unlink()
    clock.now += 2
    assert keys.check({b"x-api-key": b"other"}) == "nightly"
    assert "no API key is named 'mobile'" in caplog.text
