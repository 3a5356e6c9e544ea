"""Durations and timestamps."""

from datetime import UTC, datetime, timedelta

import pytest

from model_operator.api.times import format_duration, format_time, parse_duration, parse_time
from model_operator.errors import InvalidSpec


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("90s", timedelta(seconds=90)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5m", timedelta(seconds=90)),
        ("7d", timedelta(days=7)),
    ],
)
def test_a_duration_is_the_sum_of_its_parts(text: str, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5x", "5m!"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidSpec, match="write for example 30s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["9999999999999d", "3651d", "999999h999999h"])
def test_a_duration_that_nobody_waits_for_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="longer than 3650 days"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("span", "text"),
    [(timedelta(0), "0s"), (timedelta(seconds=125), "2m5s"), (timedelta(hours=1, minutes=30, seconds=7), "1h30m")],
)
def test_people_read_the_two_largest_units(span: timedelta, text: str) -> None:
    assert format_duration(span) == text


def test_a_timestamp_survives_the_wire_exactly() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert parse_time(format_time(moment)) == moment
