"""What a server shares with the supervisor that started it (`edge`): whether it answers, and what became of updates.

Both are files in a folder of this server's own. They are looked at again and again, by each worker, so that nothing
depends on when somebody was told.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_server.workers import end_with_parent

log = logging.getLogger(__name__)

#: While this file is there, no connection is accepted.
HOLD = "hold"
REPORT = "report.json"
#: Characters of a reason in a label.
MOST_REASON = 300


class SupervisorReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the packages at the URI.

    Attributes:
        switched: how many took the place of the one before.
        refused: how many did not.
        reason: why the object that is at the URI now was refused; empty when it was not.
        source: fingerprint of that object.
        is_offline: whether the storage did not answer the last time.
    """

    switched: int = 0
    refused: int = 0
    reason: str = ""
    source: str = ""
    is_offline: bool = False


def write_report(folder: Path, report: SupervisorReport) -> None:
    """Replace the report at once: a scrape sees the old one or the new one."""
    fresh = folder / f"{REPORT}.new"
    fresh.write_bytes(msgspec.json.encode(report))
    fresh.replace(folder / REPORT)


def read_report(folder: Path) -> SupervisorReport:
    """The report; an empty one when there is none yet."""
    try:
        return msgspec.json.decode((folder / REPORT).read_bytes(), type=SupervisorReport)
    except (OSError, msgspec.MsgspecError):
        return SupervisorReport()


class SupervisorMetrics(Collector):
    """The report as metrics, read at each scrape."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """The families of a scrape."""
        report = read_report(self._folder)
        updates = CounterMetricFamily(
            "modeldeploy_edge_updates",
            "Packages that came to the URI of `modeldeploy serve`, by what became of them: `switched` or `refused`.",
            labels=("outcome",),
        )
        updates.add_metric(("switched",), report.switched)
        updates.add_metric(("refused",), report.refused)
        yield updates
        refused = GaugeMetricFamily(
            "modeldeploy_edge_refused",
            "1 while the object at the URI of `modeldeploy serve` is one that was refused, and why.",
            labels=("source", "reason"),
        )
        if report.reason:
            refused.add_metric((report.source, report.reason[:MOST_REASON]), 1)
        yield refused
        yield GaugeMetricFamily(
            "modeldeploy_edge_offline",
            "1 while the storage does not answer `modeldeploy serve`: the package that is on disk is served.",
            value=float(report.is_offline),
        )


def follow_parent(descriptor: int) -> None:
    """Drain when the supervisor is gone, however it ended: the kernel then closes its end of this pipe."""
    # Each worker has one of its own, so that none closes it under another.
    own = os.dup(descriptor)
    threading.Thread(target=end_with_parent, args=(own,), name="supervisor", daemon=True).start()
