"""Texts of steps and metrics hold for ever: hashes of them in status say whether evidence and steps are still the same.

`strategies.json` was written by the release before structs read them. Rows may be added; a row may never change.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from model_operator.api.analysis import REFUSALS, Metric
from model_operator.api.strategy import BlueGreen, Canary, parse_strategy

ROWS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "strategies.json").read_text())


@pytest.mark.parametrize("row", ROWS, ids=[f"{i} {next(iter(row['strategy']))}" for i, row in enumerate(ROWS)])
def test_steps_and_metrics_have_the_text_that_is_hashed(row: dict[str, Any]) -> None:
    strategy = parse_strategy(row["strategy"])
    analysis = strategy.analysis if isinstance(strategy, Canary | BlueGreen) else None
    steps = strategy.steps if isinstance(strategy, Canary) else ()
    assert [repr(step) for step in steps] == row["steps"]
    metrics = [metric for metric in (analysis.metrics if analysis else ()) if not _is_implied(metric, row)]
    assert [repr(metric) for metric in metrics] == row["metrics"]


def _is_implied(metric: Metric, row: dict[str, Any]) -> bool:
    """Whether a later release judges the spec by this metric too."""
    return metric.name == REFUSALS and not any(f"name={REFUSALS!r}" in text for text in row["metrics"])
