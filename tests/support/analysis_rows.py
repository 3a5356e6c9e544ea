"""Each kind of metric in each of its states, as releases wrote them into status (`contract/operator/analysis.json`)."""

import json
from pathlib import Path
from typing import Any

from model_operator.api.analysis import AnalysisSpec, parse_analysis
from model_operator.api.strategy import parse_strategy

Row = dict[str, Any]

ROWS: list[Row] = json.loads((Path(__file__).parents[1] / "contract/operator/analysis.json").read_text())
_ROUTING = {"gatewayAPI": {"parentRefs": [{"name": "public"}]}}


def spec_of(row: Row) -> AnalysisSpec:
    """Return what the metrics of a row are judged by."""
    if "analysis" in row:
        return parse_analysis(row["analysis"])
    found = getattr(parse_strategy({"abTest": {**row["abTest"], "trafficRouting": _ROUTING}}), "analysis", None)
    assert isinstance(found, AnalysisSpec)
    return found
