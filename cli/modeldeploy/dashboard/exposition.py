"""Reads what a pod answers at `/metrics`, as far as the pages need it. PURE."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from prometheus_client.parser import text_string_to_metric_families

from modeldeploy.fleet.usage import Look

#: Bytes and series of one answer that are read; a pod may run any code.
_MOST_BYTES, _MOST_SERIES = 1_000_000, 5_000
_CPU, _MEMORY, _STARTED = "process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"
_LAST_REQUEST = "modeldeploy_last_request_timestamp_seconds"
#: Metrics that a look at a pod is made of.
LOOKED_AT = ("modeldeploy_requests_total", _LAST_REQUEST, _CPU, _MEMORY, _STARTED)


@dataclass(frozen=True, slots=True)
class Series:
    """One value of a metric with its labels."""

    name: str
    labels: Mapping[str, str]
    value: float


def series_of(text: bytes) -> list[Series]:
    """Return the values of an answer in the text format. Raises `ValueError` where it is something else."""
    decoded = text[:_MOST_BYTES].decode(errors="replace")
    samples = (sample for family in text_string_to_metric_families(decoded) for sample in family.samples)
    return [Series(one.name, one.labels, one.value) for one in islice(samples, _MOST_SERIES)]


def counters_of(series: list[Series]) -> tuple[float, float]:
    """Return the requests that a pod has answered, and those with 5xx."""
    counted = [one for one in series if one.name == "modeldeploy_requests_total"]
    bad = [one for one in counted if one.labels.get("code", "").startswith("5")]
    return sum(one.value for one in counted), sum(one.value for one in bad)


def drifted_of(series: list[Series]) -> list[str]:
    """Return the features whose inputs are far from the reference."""
    return [one.labels.get("feature", "") for one in series if one.name == "modeldeploy_drifted" and one.value]


def look_of(series: list[Series], *, at: float) -> Look:
    """Return what a pod has counted and used by `at`, in Unix time; numbers that are none are left out."""
    finite = [one for one in series if math.isfinite(one.value)]
    found = {one.name: one.value for one in finite}
    return Look(
        at=at,
        requests=counters_of(finite)[0],
        cpu_seconds=found.get(_CPU),
        memory=found.get(_MEMORY),
        started=found.get(_STARTED),
        last_request=found.get(_LAST_REQUEST),
    )
