"""Reads `GET /metrics` of a model server's pod (docs/wire.md)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from model_operator.api.status import ModelInfo

TIMEOUT = 2.0
#: A page beyond this is not a model server's.
_LARGEST = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """What one pod's server counted since it began, and which model it has."""

    model: ModelInfo | None
    requests: int
    errors: int
    durations: Mapping[float, int] = field(default_factory=dict)
    changed_source: str = ""


class HttpPodMetrics:
    """Asks pods over HTTP; use it as an async context manager."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "HttpPodMetrics":
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, address: str, port: int) -> Sample | None:
        """Return what a pod tells, None when it does not answer in time or not with metrics."""
        if self._session is None:
            raise RuntimeError("HttpPodMetrics has to be entered before it is used")
        host = f"[{address}]" if ":" in address else address
        try:
            async with self._session.get(f"http://{host}:{port}/metrics") as response:
                if response.status != 200:
                    return None
                data = await response.content.read(_LARGEST)
                return parse(data.decode(errors="replace"))
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None


def parse(text: str) -> Sample:
    """Read a page of metrics.

    Raises:
        ValueError: the text is not in Prometheus' format.
    """
    model: ModelInfo | None = None
    requests = errors = 0
    changed_source = ""
    durations: dict[float, int] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "modeldeploy_model_info":
                labels = sample.labels
                model = ModelInfo(**{name: labels.get(name, "") for name in ("uri", "version", "format", "sha256")})
            elif sample.name == "modeldeploy_source_changed":
                changed_source = sample.labels.get("source", "")
            elif sample.name == "modeldeploy_requests_total":
                requests += int(sample.value)
                errors += int(sample.value) if sample.labels.get("code", "").startswith("5") else 0
            elif sample.name == "modeldeploy_request_duration_seconds_bucket":
                edge = float(sample.labels["le"])
                durations[edge] = durations.get(edge, 0) + int(sample.value)
    return Sample(model=model, requests=requests, errors=errors, durations=durations, changed_source=changed_source)
