"""The fleet: models by what they waste, what they cost by a rate card, and those that nobody asks. PURE."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modeldeploy.fleet.quantities import NOTHING, Resources
from modeldeploy.fleet.rates import Rates
from modeldeploy.fleet.usage import ModelUse

NO_RATES = "no rates given"
#: Time without a request after which nobody asks a model, unless somebody says otherwise.
UNASKED_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRow:
    """One model. Costs are of a month, and None without rates.

    Attributes:
        is_unasked: nobody has asked for as long as the report allows; then its GPUs are idle too.
        billed: what it requests, or uses if that is more.
        idle: what it requests and does not use.
    """

    use: ModelUse
    is_unasked: bool
    billed: Resources
    idle: Resources
    cost: float | None = None
    waste: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All models, those that waste most first, and their sums."""

    rows: Sequence[FleetRow]
    currency: str
    idle: Resources
    billed: Resources
    cost: float | None
    waste: float | None

    @property
    def unasked(self) -> int:
        """How many models nobody asks."""
        return sum(row.is_unasked for row in self.rows)

    @property
    def silent(self) -> int:
        """How many pods told nothing of what they use."""
        return sum(row.use.silent for row in self.rows)


def fleet_of(uses: Iterable[ModelUse], rates: Rates | None, *, now: datetime, unasked_after: timedelta) -> Fleet:
    """Return the report. Without rates models are ordered by idle processors, then by idle memory."""
    rows = [_row(use, rates, now, unasked_after) for use in uses]
    rows.sort(key=lambda row: (-(row.waste or 0.0), -row.idle.gpus, -row.idle.cpu, -row.idle.memory, _name(row)))
    idle, billed = (sum(parts, NOTHING) for parts in ([row.idle for row in rows], [row.billed for row in rows]))
    return Fleet(
        rows=rows,
        currency=rates.currency if rates else "",
        idle=idle,
        billed=billed,
        cost=rates.per_month(billed) if rates else None,
        waste=rates.per_month(idle) if rates else None,
    )


def _row(use: ModelUse, rates: Rates | None, now: datetime, unasked_after: timedelta) -> FleetRow:
    quiet = use.quiet_since
    is_unasked = bool(use.pods) and quiet is not None and now - quiet >= unasked_after
    used = use.used or NOTHING
    billed = Resources(
        cpu=max(use.requested.cpu, used.cpu),
        memory=max(use.requested.memory, used.memory),
        gpus=use.requested.gpus,
    )
    idle = use.idle + Resources(gpus=use.requested.gpus if is_unasked else 0.0)
    return FleetRow(
        use=use,
        is_unasked=is_unasked,
        billed=billed,
        idle=idle,
        cost=rates.per_month(billed) if rates else None,
        waste=rates.per_month(idle) if rates else None,
    )


def _name(row: FleetRow) -> tuple[str, str]:
    return row.use.namespace, row.use.name


def document_of(fleet: Fleet) -> dict[str, Any]:
    """Return the report for `-o json` and `-o yaml`: processors, bytes, requests per second, money of a month."""
    money: dict[str, Any] = {"currency": fleet.currency} if fleet.currency else {"note": NO_RATES}
    return {
        "models": [_model(row) for row in fleet.rows],
        "total": {"idle": _resources(fleet.idle), **_money(fleet.cost, fleet.waste)},
        **money,
    }


def _model(row: FleetRow) -> dict[str, Any]:
    use = row.use
    return {
        "namespace": use.namespace,
        "name": use.name,
        "pods": use.pods,
        "silentPods": use.silent,
        "requestsPerSecond": None if use.per_second is None else round(use.per_second, 3),
        "lastRequestTime": use.last_request.isoformat(timespec="seconds") if use.last_request else None,
        "quietSince": use.quiet_since.isoformat(timespec="seconds") if use.quiet_since else None,
        "isUnasked": row.is_unasked,
        "requested": _resources(use.requested),
        "used": None if use.used is None else {"cpu": round(use.used.cpu, 4), "memory": round(use.used.memory)},
        "idle": _resources(row.idle),
        **_money(row.cost, row.waste),
    }


def _resources(resources: Resources) -> dict[str, float]:
    return {"cpu": round(resources.cpu, 4), "memory": round(resources.memory), "gpus": resources.gpus}


def _money(cost: float | None, waste: float | None) -> dict[str, float]:
    return {} if cost is None or waste is None else {"costPerMonth": round(cost, 2), "wastePerMonth": round(waste, 2)}
