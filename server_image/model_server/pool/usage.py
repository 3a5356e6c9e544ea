"""Processor time and memory of a pool's processes, under the names that every Prometheus client has."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class PoolUsage(Collector):
    """What the front and its worker processes have used; `pids` gives those of the processes that run."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids
        self._started = time.time()

    def collect(self) -> Iterable[Metric]:
        """The families of a scrape."""
        pids = list(self._pids())
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = time.process_time() + ended.ru_utime + ended.ru_stime + sum(map(cpu_seconds, pids))
        yield CounterMetricFamily("process_cpu_seconds", "Processor time of all processes, user and system.", value=cpu)
        yield GaugeMetricFamily(
            "process_resident_memory_bytes",
            "Resident memory of all processes; pages that they share are counted for each.",
            value=sum(map(resident_bytes, [os.getpid(), *pids])),
        )
        yield GaugeMetricFamily(
            "process_start_time_seconds", "Unix time at which the pool started.", value=self._started
        )


def cpu_seconds(pid: int) -> float:
    """Processor time of another process; 0 when it has ended, and on systems without /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # utime and stime, of which the name in front may hold anything: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> float:
    """Resident memory of a process; 0 when it has ended, and on systems without /proc."""
    try:
        return float(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0.0
