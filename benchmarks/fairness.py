"""How often the analysis metrics of groups fail a canary that is at its bound, looked at after each interval.

    python benchmarks/fairness.py [RUNS]        (make bench-analysis; 1 000 runs of each scenario, two minutes)

The rates of the canary differ by exactly the bound, the edge of what is allowed; for `group-accuracy` the groups are as
good as those of stable. Labels come in 40 intervals, from three groups of different sizes.
"""

import argparse
import sys

import numpy as np
from report import Row, Table, keep, publish

from model_operator.api.analysis import OF_GROUPS, AnalysisSpec, Metric
from model_operator.api.sums import SliceCounts
from model_operator.policy.analysis.fairness_test import FairnessState, FairnessTest, GroupCounts
from model_operator.policy.analysis.registry import fail_evidence

INTERVALS = 40
ALPHA = 0.05
BOUND = 0.1
#: By group: labels in an interval, rates of positive labels, true positives and false positives.
Groups = dict[str, tuple[int, float, float, float]]
FAIR: Groups = {"a": (60, 0.5, 0.8, 0.2), "b": (20, 0.5, 0.7, 0.1), "c": (5, 0.5, 0.75, 0.15)}
WORSE: Groups = {**FAIR, "b": (20, 0.5, 0.4, 0.1)}


def drawn(rng: np.random.Generator, groups: Groups) -> dict[str, SliceCounts]:
    found = {}
    for group, (labels, positive, tpr, fpr) in groups.items():
        yes = int(rng.binomial(labels, positive))
        tp, fp = int(rng.binomial(yes, tpr)), int(rng.binomial(labels - yes, fpr))
        said = tp + fp
        found[group] = SliceCounts(
            tp=tp, fn=yes - tp, fp=fp, tn=labels - yes - fp, positive=said, negative=labels - said
        )
    return found


def failed_at(metric: Metric, canary: Groups, seed: int) -> int | None:
    """Return the interval in which the canary fails; None if it never does."""
    test = FairnessTest(metric, fail_evidence(AnalysisSpec(metrics=(metric,), alpha=ALPHA)))
    rng, state = np.random.default_rng(seed), FairnessState()
    for interval in range(1, INTERVALS + 1):
        state = test.update(state, GroupCounts(canary=drawn(rng, canary), stable=drawn(rng, FAIR)))
        if test.fail_evidence(state) >= test.fail_at:
            return interval
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="?", type=int, default=1_000)
    runs = parser.parse_args().runs
    rows: list[Row] = []
    for name in OF_GROUPS:
        is_accuracy = name == "group-accuracy"
        metric = Metric(name=name, fail_drop=0.0) if is_accuracy else Metric(name=name, maximum=BOUND)
        for what, canary, goal in (("at its bound", FAIR, ALPHA), ("30 points worse for one group", WORSE, None)):
            share = sum(failed_at(metric, canary, seed) is not None for seed in range(runs)) / runs
            rows.append(Row(what=f"{name}, {what}: failed", value=round(share, 4), unit="of runs", goal=goal))
            print(f"{rows[-1].what}: {share:.4f}", flush=True)
    lines = [
        "| | failed |",
        "|---|---|",
        *(f"| {row.what.removesuffix(': failed')} | {row.value:.1%} |" for row in rows),
    ]
    title = f"The analysis metrics of groups, {runs} runs of each scenario"
    keep(Table(name="fairness", title=title, rows=tuple(rows), shown="\n".join(lines)))
    publish()
    return int(any(row.goal is not None and row.value > row.goal for row in rows))


if __name__ == "__main__":
    sys.exit(main())
