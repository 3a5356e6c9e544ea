"""How often a judge aborts a healthy canary, and how soon it finds a sick one, next to the rules others use.

    python benchmarks/analysis.py [RUNS]        (make bench-analysis; 20 000 runs of each scenario, a few minutes)

All judges see the same seeded streams: 40 intervals, ten each at 5, 10, 25 and 50 % of the traffic. Ours is the
operator's own code (`policy.analysis.rate_test`). The others are written down here from their documentation:

- Argo Rollouts: `successCondition` on the canary's success rate of one interval (99 %), `failureLimit` 0 and 3.
- Flagger: the same rate below `thresholdRange.min` (99 %) in `threshold` 5 checks in all.
- a pooled two-proportion z-test at 5 %, looked at after each interval.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from report import Row, Table, keep, publish
from scipy.stats import norm

from model_operator.api.analysis import AnalysisSpec, Metric
from model_operator.observation.values import Outcome
from model_operator.policy.analysis.interval_spread import Counts
from model_operator.policy.analysis.rate_test import RateState, RateTest
from model_operator.policy.analysis.registry import fail_evidence

Rates = NDArray[np.float64]
WEIGHTS = np.array([0.05] * 10 + [0.10] * 10 + [0.25] * 10 + [0.50] * 10)
INTERVALS = len(WEIGHTS)
LEAST_SUCCESS = 0.99
OURS = AnalysisSpec(metrics=(Metric(name="errors", fail_ratio=1.25),))


@dataclass(frozen=True, slots=True)
class Scenario:
    """Requests per interval, and the true error rates of stable and canary in each; shape (runs, intervals)."""

    what: str
    is_healthy: bool
    requests: int
    rates: Callable[[np.random.Generator, int], tuple[Rates, Rates]]


def constant(stable: float, canary: float) -> Callable[[np.random.Generator, int], tuple[Rates, Rates]]:
    return lambda _, runs: (np.full((runs, INTERVALS), stable), np.full((runs, INTERVALS), canary))


def shared_jump(_: np.random.Generator, runs: int) -> tuple[Rates, Rates]:
    rate = np.tile([0.002] * 20 + [0.02] * 20, (runs, 1))
    return rate, rate


def shared_shocks(rng: np.random.Generator, runs: int) -> tuple[Rates, Rates]:
    rate = np.clip(0.005 * rng.gamma(1.0, 1.0, (runs, INTERVALS)), 0, 1)
    return rate, rate


def independent_noise(rng: np.random.Generator, runs: int) -> tuple[Rates, Rates]:
    def noise() -> Rates:
        return np.clip(0.005 * rng.gamma(4.0, 0.25, (runs, INTERVALS)), 0, 1)

    return noise(), noise()


SCENARIOS = (
    Scenario("healthy, 0.5 % errors, 500 requests", True, 500, constant(0.005, 0.005)),
    Scenario("healthy, 0.5 % errors, 5,000 requests", True, 5000, constant(0.005, 0.005)),
    Scenario("healthy, both jump from 0.2 to 2 %", True, 5000, shared_jump),
    Scenario("healthy, shared shocks (cv 1)", True, 5000, shared_shocks),
    Scenario("healthy, independent noise (cv 0.5)", True, 5000, independent_noise),
    Scenario("2 % against 0.5 %, 500 requests", False, 500, constant(0.005, 0.02)),
    Scenario("1 % against 0.5 %, 5,000 requests", False, 5000, constant(0.005, 0.01)),
    Scenario("10 % against 0.5 %, 500 requests", False, 500, constant(0.005, 0.10)),
)


@dataclass(frozen=True, slots=True)
class Streams:
    """Requests and errors of both revisions; shape (runs, intervals)."""

    canary: NDArray[np.int64]
    canary_bad: NDArray[np.int64]
    stable: NDArray[np.int64]
    stable_bad: NDArray[np.int64]


def streams(scenario: Scenario, runs: int, seed: int = 7) -> Streams:
    rng = np.random.default_rng(seed)
    stable_rate, canary_rate = scenario.rates(rng, runs)
    canary = rng.binomial(scenario.requests, np.tile(WEIGHTS, (runs, 1)))
    stable = scenario.requests - canary
    return Streams(canary, rng.binomial(canary, canary_rate), stable, rng.binomial(stable, stable_rate))


def ours(seen: Streams) -> list[int | None]:
    return [our_abort(*(part[run].tolist() for part in parts(seen))) for run in range(len(seen.canary))]


def our_abort(canary: list[int], canary_bad: list[int], stable: list[int], stable_bad: list[int]) -> int | None:
    (metric,) = OURS.metrics
    test, state = RateTest(metric, fail_evidence(OURS)), RateState()
    for index, (c, x, s, y) in enumerate(zip(canary, canary_bad, stable, stable_bad, strict=True)):
        state = test.update(state, Counts(canary=c, canary_bad=x, stable=s, stable_bad=y))
        if test.verdict(state) is Outcome.FAIL:
            return index + 1
    return None


def parts(seen: Streams) -> tuple[NDArray[np.int64], ...]:
    return seen.canary, seen.canary_bad, seen.stable, seen.stable_bad


def windows_below(failures: int) -> Callable[[Streams], list[int | None]]:
    """Abort at so many intervals in which the canary's own success rate was too low."""

    def rule(seen: Streams) -> list[int | None]:
        is_low = seen.canary_bad > (1 - LEAST_SUCCESS) * seen.canary
        return first(np.cumsum(is_low, axis=1) >= failures)

    return rule


def z_test(seen: Streams) -> list[int | None]:
    n_c, x_c, n_s, x_s = (np.cumsum(part, axis=1) for part in parts(seen))
    pooled = (x_c + x_s) / (n_c + n_s)
    deviation = np.sqrt(pooled * (1 - pooled) * (1 / np.maximum(n_c, 1) + 1 / np.maximum(n_s, 1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(deviation > 0, (x_c / np.maximum(n_c, 1) - x_s / np.maximum(n_s, 1)) / deviation, 0)
    return first(z > norm.ppf(0.95))


def first(hits: NDArray[np.bool_]) -> list[int | None]:
    return [int(row.argmax()) + 1 if row.any() else None for row in hits]


JUDGES: dict[str, Callable[[Streams], list[int | None]]] = {
    "modeldeploy": ours,
    "Argo Rollouts, failureLimit 0": windows_below(1),
    "Argo Rollouts, failureLimit 3": windows_below(4),
    "Flagger, threshold 5": windows_below(5),
    "z-test at every look": z_test,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="?", type=int, default=20_000)
    runs = parser.parse_args().runs
    rows: list[Row] = []
    lines = [f"| | {' | '.join(JUDGES)} |", f"|---|{'---|' * len(JUDGES)}"]
    for scenario in SCENARIOS:
        seen = streams(scenario, runs)
        cells = []
        for name, rule in JUDGES.items():
            found = rows_of(scenario, name, rule(seen))
            rows += found
            cells.append(cell_of(scenario, found))
            print(*(f"{row.what}: {row.value:g} {row.unit}" for row in found), sep="\n", flush=True)
        lines.append(f"| {scenario.what} | {' | '.join(cells)} |")
    title = f"The canary judge and the rules others use, {runs} runs of each scenario"
    keep(Table(name="analysis", title=title, rows=tuple(rows), shown="\n".join(lines)))
    publish()
    missed = [row.what for row in rows if row.goal is not None and row.value > row.goal]
    for what in missed:
        print(f"goal missed: {what}", file=sys.stderr)
    return 1 if missed else 0


def cell_of(scenario: Scenario, rows: list[Row]) -> str:
    """Return what one judge did, in a few words."""
    if scenario.is_healthy:
        return f"aborts {rows[0].value:.1%}"
    missed, found = rows
    return f"found after {found.value:g}" + (f", misses {missed.value:.1%}" if missed.value >= 0.0005 else "")


def rows_of(scenario: Scenario, judge_name: str, aborts: list[int | None]) -> list[Row]:
    found = [interval for interval in aborts if interval is not None]
    share = len(found) / len(aborts)
    is_ours = judge_name == "modeldeploy"
    if scenario.is_healthy:
        goal = 0.05 if is_ours else None
        return [Row(what=f"{scenario.what}: aborted by {judge_name}", value=round(share, 4), unit="of runs", goal=goal)]
    median = statistics.median(found) if found else float(INTERVALS + 1)
    goal = 2 if is_ours and "10 %" in scenario.what else None
    return [
        Row(what=f"{scenario.what}: missed by {judge_name}", value=round(1 - share, 4), unit="of runs"),
        Row(what=f"{scenario.what}: found by {judge_name} after", value=median, unit="intervals (median)", goal=goal),
    ]


if __name__ == "__main__":
    sys.exit(main())
