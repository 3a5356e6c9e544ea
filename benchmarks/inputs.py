"""How often metrics of what clients send fail a canary that is no worse, looked at after each interval.

    python benchmarks/inputs.py [RUNS]        (make bench-analysis; 1 000 runs of each scenario, a minute)

40 intervals with 500 requests each, ten at 5, 10, 25 and 50 % of the traffic; the margin is 5 points. `data-quality`
and `outliers` are one test of two counts; `refusals` at its default of 1.25 times stable's rate. The rules beside them
take requests for independent: the test of feedback metrics, and that of `errors` at the default of `refusals`.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from report import Row, Table, keep, publish

from model_operator.api.analysis import AnalysisSpec, Metric
from model_operator.api.sums import SumStats
from model_operator.policy.analysis.feedback_test import FeedbackState, FeedbackTest, Labels
from model_operator.policy.analysis.input_test import InputState, InputTest
from model_operator.policy.analysis.interval_spread import Counts
from model_operator.policy.analysis.rate_test import RateState, RateTest
from model_operator.policy.analysis.registry import fail_evidence

WEIGHTS = (0.05,) * 10 + (0.10,) * 10 + (0.25,) * 10 + (0.50,) * 10
REQUESTS, ALPHA, MARGIN = 500, 0.05, 0.05
METRIC = Metric(name="data-quality", fail_drop=MARGIN)
FAIL_AT = fail_evidence(AnalysisSpec(metrics=(METRIC,), alpha=ALPHA))
Interval = Callable[[np.random.Generator, int, float], Counts]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What both revisions see in an interval, given its number and the canary's weight."""

    what: str
    is_healthy: bool
    interval: Interval


def independent(stable: Callable[[np.random.Generator, int], float], more: float = 0.0) -> Interval:
    def drawn(rng: np.random.Generator, number: int, weight: float) -> Counts:
        n, rate = int(rng.binomial(REQUESTS, weight)), stable(rng, number)
        canary_bad, stable_bad = rng.binomial(n, min(rate + more, 1.0)), rng.binomial(REQUESTS - n, rate)
        return Counts(canary=n, canary_bad=int(canary_bad), stable=REQUESTS - n, stable_bad=int(stable_bad))

    return drawn


def connections(share: float, size: int) -> Interval:
    """Clients that each send `size` requests on one connection, which leads to one revision; all bad, or all good."""

    def drawn(rng: np.random.Generator, _: int, weight: float) -> Counts:
        clients = REQUESTS // size
        n = int(rng.binomial(clients, weight))
        bad = rng.binomial(n, share), rng.binomial(clients - n, share)
        return Counts(
            canary=n * size, canary_bad=int(bad[0]) * size, stable=(clients - n) * size, stable_bad=int(bad[1]) * size
        )

    return drawn


SCENARIOS = (
    Scenario("the same, 2 % bad", True, independent(lambda *_: 0.02)),
    Scenario("5 points worse, the margin itself", True, independent(lambda *_: 0.02, 0.05)),
    Scenario("5 points worse than none", True, independent(lambda *_: 0.0, 0.05)),
    Scenario("the same, both jump from 2 to 40 %", True, independent(lambda _, i: 0.02 if i < 20 else 0.4)),
    Scenario("the same, shared bursts", True, independent(lambda rng, _: min(0.05 * rng.gamma(0.5, 2.0), 1.0))),
    Scenario("the same, clients of 20 requests, 5 % of them bad", True, connections(0.05, 20)),
    Scenario("the same, clients of 50 requests, 20 % of them bad", True, connections(0.2, 50)),
    Scenario("15 % against 2 %", False, independent(lambda *_: 0.02, 0.13)),
    Scenario("60 % against 2 %", False, independent(lambda *_: 0.02, 0.58)),
)


def intervals(scenario: Scenario, seed: int) -> Iterator[Counts]:
    rng = np.random.default_rng(seed)
    return (scenario.interval(rng, number, weight) for number, weight in enumerate(WEIGHTS))


def ours(scenario: Scenario, seed: int) -> int | None:
    """Return the interval in which the canary fails; None if it never does."""
    test, state = InputTest(METRIC, FAIL_AT), InputState()
    for number, counts in enumerate(intervals(scenario, seed), 1):
        state = test.update(state, counts)
        if test.fail_evidence(state) >= FAIL_AT:
            return number
    return None


def of_feedback(scenario: Scenario, seed: int) -> int | None:
    test, state = FeedbackTest(Metric(name="accuracy", fail_drop=MARGIN), FAIL_AT), FeedbackState()
    for number, counts in enumerate(intervals(scenario, seed), 1):
        canary = SumStats(count=counts.canary, total=counts.canary_bad, squares=counts.canary_bad)
        stable = SumStats(count=counts.stable, total=counts.stable_bad, squares=counts.stable_bad)
        state = test.update(state, Labels(canary=canary, stable=stable))
        if test.fail_evidence(state) >= FAIL_AT:
            return number
    return None


def of_rates(name: str, scenario: Scenario, seed: int) -> int | None:
    test, state = RateTest(Metric(name=name, fail_ratio=1.25), FAIL_AT), RateState()
    for number, counts in enumerate(intervals(scenario, seed), 1):
        state = test.update(state, counts)
        if test.fail_evidence(state) >= FAIL_AT:
            return number
    return None


JUDGES = {
    "data-quality, outliers": ours,
    "refusals": partial(of_rates, "refusals"),
    "as feedback": of_feedback,
    "as errors": partial(of_rates, "errors"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="?", type=int, default=1_000)
    runs = parser.parse_args().runs
    rows: list[Row] = []
    lines = [f"| | {' | '.join(JUDGES)} |", f"|---|{'---|' * len(JUDGES)}"]
    for scenario in SCENARIOS:
        cells = []
        for name, judge in JUDGES.items():
            found = [at for seed in range(runs) if (at := judge(scenario, seed)) is not None]
            share = len(found) / runs
            goal = ALPHA if scenario.is_healthy and judge is ours else None
            what = f"{scenario.what}: failed by {name}"
            rows.append(Row(what=what, value=round(share, 4), unit="of runs", goal=goal))
            after = f", after {statistics.median(found):g}" if found and not scenario.is_healthy else ""
            cells.append(f"{share:.1%}{after}")
            print(f"{what}: {share:.4f}{after}", flush=True)
        lines.append(f"| {scenario.what} | {' | '.join(cells)} |")
    title = f"The analysis metrics of inputs, canaries failed in {runs} runs of each scenario"
    keep(Table(name="inputs", title=title, rows=tuple(rows), shown="\n".join(lines)))
    publish()
    return int(any(row.goal is not None and row.value > row.goal for row in rows))


if __name__ == "__main__":
    sys.exit(main())
