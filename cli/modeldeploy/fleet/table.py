"""The fleet as a table of rich, and the words that the dashboard uses too. PURE: `now` is given."""

from collections.abc import Callable, Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from modeldeploy.durations import format_duration
from modeldeploy.fleet.quantities import GIB
from modeldeploy.fleet.report import NO_RATES, Fleet, FleetRow
from modeldeploy.fleet.usage import ModelUse

UNKNOWN = "-"


def fleet_table(fleet: Fleet, *, now: datetime, with_namespace: bool, is_wide: bool) -> Table:
    """One row for each model; used and requested, and what of it is idle."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ["NAMESPACE"] * with_namespace + ["NAME", "PODS", "REQ/S", "LAST REQUEST", "CPU", "MEMORY", "GPUS"]
    columns += ["IDLE CPU", "IDLE MEMORY"]
    if is_wide:
        columns += ["IDLE GPUS", "SILENT PODS", "COUNTED FOR"]
    if fleet.cost is not None:
        columns += [f"COST/MONTH ({fleet.currency})", f"WASTE/MONTH ({fleet.currency})"]
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in fleet.rows:
        table.add_row(*map(Text, _cells(row, now, with_namespace=with_namespace, is_wide=is_wide)))
    return table


def _cells(row: FleetRow, now: datetime, *, with_namespace: bool, is_wide: bool) -> Sequence[str]:
    use = row.use
    cells = [use.namespace] * with_namespace
    cells += [use.name, str(use.pods), rate(use.per_second), last_request(use, now)]
    cells += [cpu(use), memory(use), number(use.requested.gpus)]
    cells += [number(row.idle.cpu), gibibytes(row.idle.memory)] if use.used else [UNKNOWN, UNKNOWN]
    if is_wide:
        cells += [number(row.idle.gpus), str(use.silent), age(use.since, now)]
    if row.cost is not None and row.waste is not None:
        cells += [money(row.cost), money(row.waste)]
    return cells


def summary_lines(fleet: Fleet) -> list[str]:
    """Return what the fleet adds up to, in sentences."""
    idle = [_counted(fleet.idle.cpu, "CPU"), f"{gibibytes(fleet.idle.memory)} of memory"]
    idle += [_counted(fleet.idle.gpus, "GPU")] if fleet.idle.gpus else []
    cost = f"{NO_RATES}, so that no cost is shown"
    if fleet.cost is not None and fleet.waste is not None:
        cost = f"{money(fleet.waste)} of {money(fleet.cost)} {fleet.currency} a month"
    lines = [f"{_counted(len(fleet.rows), 'model')}; idle: {', '.join(idle)}; {cost}"]
    if fleet.unasked:
        lines.append(f"nobody asks {', '.join(row.use.name for row in fleet.rows if row.is_unasked)}")
    if fleet.silent:
        pods = _counted(fleet.silent, "pod")
        lines.append(f"{pods} told nothing: not reached, behind API keys, or with a server of an older release")
    return lines


def last_request(use: ModelUse, now: datetime) -> str:
    """Return how long ago a model was asked; without a request, for how long its pods have counted none."""
    if not use.pods:
        return "no pods"
    if use.last_request is not None:
        return f"{age(use.last_request, now)} ago"
    return f"none in {age(use.since, now)}" if use.since is not None else UNKNOWN


def cpu(use: ModelUse) -> str:
    """Return processors, used of requested."""
    return _of(use, number(use.used.cpu) if use.used else UNKNOWN, use.requested.cpu, number)


def memory(use: ModelUse) -> str:
    """Return memory, used of requested."""
    return _of(use, gibibytes(use.used.memory) if use.used else UNKNOWN, use.requested.memory, gibibytes)


def _of(use: ModelUse, used: str, requested: float, written: Callable[[float], str]) -> str:
    if not use.pods:
        return UNKNOWN
    return f"{used} of {written(requested)}" if requested else f"{used}, none requested"


def rate(value: float | None) -> str:
    """Return requests per second."""
    return UNKNOWN if value is None else f"{value:.3g}"


def age(at: datetime | None, now: datetime) -> str:
    """Return how long ago a time was, by its largest unit."""
    return UNKNOWN if at is None else format_duration(now - at).partition(" ")[0]


def number(value: float) -> str:
    """Return a number of processors: hundredths are enough."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def gibibytes(value: float) -> str:
    """Return bytes in GiB."""
    return f"{number(value / GIB)} GiB"


def _counted(value: float, word: str) -> str:
    """Return a number and what it counts."""
    return f"{number(value)} {word if value == 1 else f'{word}s'}"


def money(value: float) -> str:
    """Return an amount."""
    return f"{value:,.2f}"
