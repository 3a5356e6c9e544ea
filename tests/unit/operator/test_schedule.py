"""When the runs of a schedule are due: missed ones, deadlines, time zones, and the days on which clocks change."""

from datetime import UTC, datetime, timedelta

import pytest

from model_operator.errors import InvalidSpec
from model_operator.policy.schedule import due, places, run_name


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}Z")


@pytest.mark.parametrize(
    ("schedule", "since", "now", "missed", "following"),
    [
        pytest.param("0 2 * * *", "01-30T02:00", "01-31T01:59", None, "01-31T02:00", id="not yet"),
        pytest.param("0 2 * * *", "01-30T02:00", "01-31T02:00", "01-31T02:00", "02-01T02:00", id="just now"),
        pytest.param("0 2 * * *", "01-31T02:00", "01-31T02:00", None, "02-01T02:00", id="it has had its run"),
        pytest.param("0 2 * * *", "01-20T02:00", "01-31T12:00", "01-31T02:00", "02-01T02:00", id="the last of many"),
        pytest.param("0 2 * * *", "01-31T02:01", "01-31T12:00", None, "02-01T02:00", id="made after the time"),
        pytest.param("0 2 31 * *", "01-31T02:00", "03-30T00:00", None, "03-31T02:00", id="February has no 31st"),
        pytest.param("0 2 L * *", "01-31T02:00", "02-28T02:00", "02-28T02:00", "03-31T02:00", id="the last day"),
        pytest.param("0 2 * * 1", "01-30T00:00", "02-01T00:00", None, "02-02T02:00", id="the next Monday"),
    ],
)
def test_the_last_time_that_has_come_is_due(
    schedule: str, since: str, now: str, missed: str | None, following: str
) -> None:
    found = due(schedule, None, since=at(f"2026-{since}"), now=at(f"2026-{now}"))
    assert found.missed == (at(f"2026-{missed}") if missed else None)
    assert found.following == at(f"2026-{following}")


@pytest.mark.parametrize(
    ("deadline", "is_due"),
    [
        pytest.param(None, True, id="without a deadline however late"),
        pytest.param(3601, True, id="within it"),
        pytest.param(3600, False, id="as late as the deadline"),
        pytest.param(60, False, id="later"),
    ],
)
def test_a_run_is_not_started_after_its_deadline(deadline: int | None, is_due: bool) -> None:
    limit = None if deadline is None else timedelta(seconds=deadline)
    found = due("0 2 * * *", None, since=at("2026-01-30T02:00"), now=at("2026-01-31T03:00"), deadline=limit)
    assert (found.missed is not None) == is_due


#: Clocks of Berlin go from 02:00 to 03:00 at 2026-03-29T01:00Z, and from 03:00 to 02:00 at 2026-10-25T01:00Z.
@pytest.mark.parametrize(
    ("schedule", "zone", "since", "runs"),
    [
        pytest.param("0 2 * * *", "Asia/Kathmandu", "01-30T00:00", ["01-30T20:15"], id="a zone of three quarters"),
        pytest.param("30 2 * * *", "Europe/Berlin", "03-28T12:00", ["03-29T01:00"], id="a time that does not exist"),
        pytest.param("30 2 * * *", "Europe/Berlin", "10-24T12:00", ["10-25T00:30"], id="a time that comes twice"),
        pytest.param(
            "30 * * * *", "Europe/Berlin", "03-29T00:00", ["03-29T00:30", "03-29T01:30"], id="every hour in spring"
        ),
        pytest.param(
            "30 * * * *",
            "Europe/Berlin",
            "10-25T00:00",
            ["10-25T00:30", "10-25T01:30", "10-25T02:30"],
            id="every hour in autumn, also the one that comes twice",
        ),
        pytest.param(
            "0 0 * * *", "America/Santiago", "09-05T12:00", ["09-06T04:00"], id="a midnight that is not there"
        ),
    ],
)
def test_local_times_run_once_where_clocks_change(schedule: str, zone: str, since: str, runs: list[str]) -> None:
    last, found = at(f"2026-{since}"), []
    for minute in range(0, len(runs) * 60 + 24 * 60, 5):
        now = at(f"2026-{since}") + timedelta(minutes=minute)
        if (moment := due(schedule, zone, since=last, now=now).missed) is not None:
            last = moment
            found.append(moment)
    assert found[: len(runs)] == [at(f"2026-{run}") for run in runs]
    # Asked once at the end, it is the last of them.
    end = found[len(runs) - 1] + timedelta(minutes=29)
    assert due(schedule, zone, since=at(f"2026-{since}"), now=end).missed == found[len(runs) - 1]


@pytest.mark.parametrize(
    ("schedule", "zone", "told"),
    [
        pytest.param("61 * * * *", None, "spec.schedule: '61 * * * *' is no schedule", id="a minute that is none"),
        pytest.param("0 2 30 2 *", None, "is no schedule: Bad day-of-month", id="the 30th of February"),
        pytest.param(
            "0 2 * * *", "Europe/Berlim", "spec.timeZone: 'Europe/Berlim' is no time zone", id="a typing error"
        ),
        pytest.param("0 2 * * *", "../etc/passwd", "is no time zone", id="a path"),
    ],
)
def test_what_is_no_schedule_is_named(schedule: str, zone: str | None, told: str) -> None:
    with pytest.raises(InvalidSpec, match=told.replace("*", r"\*")):
        due(schedule, zone, since=at("2026-01-01T00:00"), now=at("2026-01-02T00:00"))


def test_a_run_has_the_date_of_its_zone_and_the_minute_of_its_time() -> None:
    moment = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
    assert places(moment, "Europe/Berlin") == {"date": "2026-02-01", "time": "20260131T233000Z"}
    assert run_name("nightly", moment) == f"nightly-{int(moment.timestamp()) // 60}"
