"""The PromQL of a dashboard, with values in place of its variables."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Body = Mapping[str, Any]

_LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")


def panels(dashboard: Body) -> Iterator[Body]:
    """Yield the panels that show something."""
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            yield panel


def expressions(dashboard: Body) -> Iterator[tuple[str, str]]:
    """Yield title of the panel and expression of each query."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def label_queries(dashboard: Body) -> Iterator[tuple[str, str]]:
    """Yield selector of the series and name of the label of each variable that asks the data source."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = _LABEL_VALUES.fullmatch(variable["query"])
            assert found is not None, variable["query"]
            yield found["series"], found["label"]


def filled(expression: str, chosen: Mapping[str, str], interval: str = "1m") -> str:
    """Return the expression as Grafana sends it."""
    text = expression.replace("$__rate_interval", interval)
    for name, value in chosen.items():
        text = text.replace(f"${name}", value)
    return text
