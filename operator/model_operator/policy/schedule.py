"""When the runs of a schedule are due, as a CronJob has it. Pure.

https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from model_operator.errors import InvalidSpec


@dataclass(frozen=True, slots=True)
class Due:
    """The last time of a schedule that has come and has no run yet, if any, and the next that will come."""

    missed: datetime | None
    following: datetime


def due(
    schedule: str,
    time_zone: str | None,
    *,
    since: datetime,
    now: datetime,
    deadline: timedelta | None = None,
    path: str = "spec",
) -> Due:
    """Return which run is due: of several that were missed only the last one, and none that is later than `deadline`.

    Args:
        since: the time of the last run, or of the creation; times up to it are over.
        path: path of the object that has the schedule, for the error.

    Raises:
        InvalidSpec: the schedule or the time zone is none.
    """
    zone = _zone(time_zone or "UTC", path)
    following = _neighbour(schedule, now.astimezone(zone), path, is_reverse=False)
    # The iterator excludes its start, and a time that comes exactly now is due. A second later in UTC: local time knows
    # no longer which of two equal hours it is.
    last = _neighbour(schedule, (now + timedelta(seconds=1)).astimezone(zone), path, is_reverse=True)
    earliest = since if deadline is None else max(since, now - deadline)
    return Due(last if earliest < last <= now else None, following)


def places(moment: datetime, time_zone: str | None) -> dict[str, str]:
    """Return what `{date}` and `{time}` stand for in the URIs of a run."""
    local, at = moment.astimezone(_zone(time_zone or "UTC")), moment.astimezone(UTC)
    return {"date": f"{local:%Y-%m-%d}", "time": f"{at:%Y%m%dT%H%M%SZ}"}


def run_name(name: str, moment: datetime) -> str:
    """Return the name of a run: that of the schedule and its minutes since 1970, as for the Jobs of a CronJob."""
    return f"{name}-{int(moment.timestamp()) // 60}"


def _neighbour(schedule: str, moment: datetime, path: str, *, is_reverse: bool) -> datetime:
    try:
        found: datetime = next(CronSim(schedule, moment, reverse=is_reverse))
    except CronSimError as error:
        raise InvalidSpec(
            f"{path}.schedule: {schedule!r} is no schedule: {error}; write minute, hour, day of month, month and day of"
            " week, as in '0 2 * * *'"
        ) from None
    except StopIteration:
        raise InvalidSpec(f"{path}.schedule: {schedule!r} names a day that never comes") from None
    return found.astimezone(UTC)


@lru_cache(maxsize=128)
def _zone(name: str, path: str = "spec") -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidSpec(
            f"{path}.timeZone: {name!r} is no time zone; write one such as Europe/Berlin or UTC"
        ) from None
