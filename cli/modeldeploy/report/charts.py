"""Which charts a rollout gets: the weight, and for each metric its rates or values and its evidence. PURE."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from modeldeploy.report.chart import Axis, Band, Chart, Line
from modeldeploy.report.confidence import confidence_sequence
from modeldeploy.report.story import Counts, JudgedRollout, Numbers

#: Evidence below this is drawn at the lower edge: it speaks for the canary.
_LEAST_EVIDENCE = 0.01
_SIDES = ("canary", "stable")
_BANDS_NOTE = "Shaded: where the rate is with 95 % confidence, at all times at once."


def charts_of(rollout: JudgedRollout) -> Iterator[Chart]:
    """Yield the charts in the order in which they are read."""
    yield _weights(rollout)
    for metric in rollout.metrics:
        series = [
            ((point.at - rollout.started).total_seconds(), point.metrics[metric["name"]])
            for point in rollout.points
            if metric["name"] in point.metrics
        ]
        seconds = rollout.took.total_seconds()
        yield from _rates(metric["name"], series, seconds)
        yield from _values(metric["name"], series, seconds)
        yield from _evidence(metric, series, seconds)


def _weights(rollout: JudgedRollout) -> Chart:
    steps = [((point.at - rollout.started).total_seconds(), float(point.weight)) for point in rollout.points]
    seconds = rollout.took.total_seconds()
    return Chart(
        title="Weight",
        note=f"Percent of the requests for {rollout.canary}.",
        seconds=seconds,
        y=Axis(low=0, high=100),
        lines=[Line(label="canary", points=[*steps, (seconds, steps[-1][1])], is_step=True)],
        unit=" %",
    )


def _rates(name: str, series: Sequence[tuple[float, Numbers]], seconds: float) -> Iterator[Chart]:
    """The bad requests' share of both revisions, with how sure one can be of it."""
    counted = [(at, numbers.counts) for at, numbers in series if numbers.counts and numbers.counts.canary]
    if not counted:
        return
    sides: dict[str, Callable[[Counts], tuple[int, int]]] = {
        "canary": lambda counts: (counts.canary, counts.canary_bad),
        "stable": lambda counts: (counts.stable, counts.stable_bad),
    }
    lines, bands = [], []
    for side, of in sides.items():
        totals = [(at, *of(counts)) for at, counts in counted]
        points = [(at, n, bad) for at, n, bad in totals if n]
        if points:
            lines.append(Line(label=side, points=[(at, 100 * bad / n) for at, n, bad in points]))
            bands.append(Band(label=side, points=[(at, *_percent(n, bad)) for at, n, bad in points]))
    # The first looks are hardly sure of anything; they must not flatten the rest.
    high = max([2 * value for line in lines for _, value in line.points] + [band.points[-1][2] for band in bands])
    yield Chart(
        title=f"{name}: bad requests",
        note=_BANDS_NOTE,
        seconds=seconds,
        y=Axis(low=0, high=min(high or 1, 100)),
        lines=lines,
        bands=bands,
        unit=" %",
    )


def _percent(trials: int, bad: int) -> tuple[float, float]:
    low, high = confidence_sequence(trials, bad)
    return 100 * low, 100 * high


def _values(name: str, series: Sequence[tuple[float, Numbers]], seconds: float) -> Iterator[Chart]:
    """A value that was measured and not counted."""
    labels = dict.fromkeys(label for _, numbers in series for label in numbers.values)
    lines = [
        Line(
            label=label if label in _SIDES else "canary",
            points=[(at, numbers.values[label]) for at, numbers in series if label in numbers.values],
        )
        for label in labels
    ]
    if not lines:
        return
    values = [value for line in lines for _, value in line.points]
    low, high = min(*values, 0.0), max(*values, 0.0)
    yield Chart(title=name, note="As measured.", seconds=seconds, y=Axis(low=low, high=high or 1.0), lines=lines)


def _evidence(metric: Mapping[str, Any], series: Sequence[tuple[float, Numbers]], seconds: float) -> Iterator[Chart]:
    """E, on its way to what it decides at."""
    points = [(at, max(numbers.evidence, _LEAST_EVIDENCE)) for at, numbers in series if numbers.evidence is not None]
    if not points:
        return
    decides = float(metric["failAt"])
    high = max([10 * decides, *(value for _, value in points)])
    is_test = "decision" in metric
    what, who = ("for a difference", "One of two equals") if is_test else ("against the canary", "A healthy canary")
    yield Chart(
        title=f"{metric['name']}: evidence {what}",
        note=f"{who} ever gets to {decides:g} with a probability of 1 in {decides:g} at most.",
        seconds=seconds,
        y=Axis(low=_LEAST_EVIDENCE, high=high, is_log=True),
        lines=[Line(label="evidence", points=points)],
        limit=("decides" if is_test else "goes back", decides),
    )
