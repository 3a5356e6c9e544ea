"""Reads what a pod answers at `/metrics`, as far as the pages need it. PURE."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from prometheus_client.parser import text_string_to_metric_families

#: Bytes and series of one answer that are read; a pod may run any code.
_MOST_BYTES, _MOST_SERIES = 1_000_000, 5_000


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
