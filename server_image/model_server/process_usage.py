"""Processor time and memory of a server, under the names that every Prometheus client has; `telemetry.py` shows them.

The client library's own collector knows one process. Here each worker writes what it has used into the shared values at
each tick of its server, and a scrape adds them up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_server.shared_values import SharedValues, Slice

_STATM = Path("/proc/self/statm")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProcessUsage(Collector):
    """What the workers have used."""

    def __init__(self, values: SharedValues) -> None:
        self._values = values
        self._cpu, self._memory, self._started = (values.declare().first for _ in range(3))
        values.own[self._started] = time.time()
        self.refresh()

    def refresh(self) -> None:
        """Note what this worker has used by now."""
        self._values.own[self._cpu] = time.process_time()
        self._values.own[self._memory] = _resident_bytes()

    def collect(self) -> Iterable[Metric]:
        """The families of a scrape; what other workers used is a second old at most."""
        self.refresh()
        values = self._values
        yield CounterMetricFamily(
            "process_cpu_seconds", "Processor time of all workers, user and system.", value=values.sum(self._cpu)
        )
        yield GaugeMetricFamily(
            "process_resident_memory_bytes",
            "Resident memory of all workers; pages that they share are counted for each.",
            value=values.sum(self._memory),
        )
        started = [row[0] for row in values.each(Slice(self._started, 1))]
        yield GaugeMetricFamily(
            "process_start_time_seconds",
            "Unix time at which the first worker started.",
            value=min((one for one in started if one), default=0.0),
        )


def _resident_bytes() -> float:
    """Resident memory; 0 on systems without /proc."""
    try:
        return float(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0.0
