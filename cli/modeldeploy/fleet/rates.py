"""A rate card: what an hour of a processor, of a GiB of memory and of a GPU costs. PURE."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from modeldeploy.fleet.quantities import GIB, Resources

_KEYS = {"cpuHour": "cpu_hour", "gibHour": "gib_hour", "gpuHour": "gpu_hour"}
#: Of a month, as cloud providers reckon: 365 days by twelve.
HOURS_A_MONTH = 730


class BadRates(ValueError):
    """A rate card cannot be read; the message names the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Prices of an hour, in `currency`."""

    currency: str
    cpu_hour: float = 0.0
    gib_hour: float = 0.0
    gpu_hour: float = 0.0

    @classmethod
    def from_document(cls, document: Any) -> Self:
        """Read `currency`, `cpuHour`, `gibHour` and `gpuHour`. Raises `BadRates`."""
        known = ", ".join(("currency", *_KEYS))
        if not isinstance(document, Mapping):
            raise BadRates(f"rates are a mapping with {known}")
        unknown = sorted(map(str, document.keys() - {"currency", *_KEYS}))
        if unknown:
            raise BadRates(f"rates have no {unknown[0]!r}; known are {known}")
        currency = document.get("currency")
        if not isinstance(currency, str) or not currency.strip():
            raise BadRates("rates need a currency, as in currency: EUR")
        prices = {field: _price(key, document[key]) for key, field in _KEYS.items() if key in document}
        if not prices:
            raise BadRates(f"rates need a price: one of {', '.join(_KEYS)}")
        return cls(currency=currency.strip(), **prices)

    def per_month(self, resources: Resources) -> float:
        """Return what so much costs in a month."""
        hour = self.cpu_hour * resources.cpu + self.gib_hour * resources.memory / GIB + self.gpu_hour * resources.gpus
        return hour * HOURS_A_MONTH


def _price(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise BadRates(f"{key} is a price of one hour, a number from 0 on, not {value!r}")
    return float(value)
