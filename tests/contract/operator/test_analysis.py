"""Evidence outlives the operator that took it: what one release wrote into status, the next one reads, bit by bit.

`analysis.json` has a row for each state that a metric can be in, written by the release that brought it. Rows may be
added; a row may never change: a `rule` that becomes another one takes all evidence from every running rollout at an
upgrade. A release may judge a spec by one more metric: the new one begins without evidence, and as it takes a share of
alpha, the others need more (`failAt`).
"""

import json
from typing import Any

import pytest
from analysis_rows import ROWS, Row, spec_of

from model_operator.api.analysis import Kind
from model_operator.policy.analysis.registry import KINDS, metric_test
from model_operator.policy.analysis.state import from_status, rule_of, verdict
from model_operator.policy.status.analysis_status import metric_entries

#: What follows from the evidence and the number of metrics.
_DECIDED = ("failAt", "verdict", "needRequests", "message")


def test_every_kind_of_metric_has_rows() -> None:
    assert {metric.kind for row in ROWS for metric in spec_of(row).metrics} == set(KINDS) == set(Kind)


def _with(new: Any, old: Any) -> Any:
    """What is written now, with what was written then put over it, at every depth."""
    if not isinstance(old, dict):
        return old
    return {**new, **{name: _with(new.get(name, {}), value) for name, value in old.items()}}


@pytest.mark.parametrize("row", [pytest.param(row, id=row["name"]) for row in ROWS])
def test_a_release_reads_what_earlier_ones_wrote(row: Row) -> None:
    spec = spec_of(row)
    state = from_status(spec, row)
    entries = json.loads(json.dumps(metric_entries(spec, verdict(spec, state))))
    rules = {metric.name: rule_of(metric) for metric in spec.metrics}
    written = {entry["name"]: entry for entry in entries}
    for old in row["metrics"]:
        new = written[old["name"]]
        assert rules[old["name"]] == old["rule"]
        assert new.get("failAt", 0) >= old.get("failAt", 0)
        # Numbers may be added, none may change or go: a downgrade has to read them.
        assert _with(new, {name: value for name, value in old.items() if name not in _DECIDED}) == new
    restored = from_status(spec, {"metrics": entries})
    assert {old["name"]: restored.metrics[old["name"]] for old in row["metrics"]} == state.metrics


@pytest.mark.parametrize("row", [pytest.param(row, id=row["name"]) for row in ROWS])
def test_evidence_goes_on_where_it_was(row: Row) -> None:
    """Were an entry not understood, its metric would begin without evidence."""
    spec = spec_of(row)
    state = from_status(spec, row)
    metrics = {metric.name: metric for metric in spec.metrics}
    for old in row["metrics"]:
        test = metric_test(metrics[old["name"]], old.get("failAt", 1.0))
        assert test.metric.name in state.metrics
        assert str(test.verdict(state.of(test))) == old["verdict"]
