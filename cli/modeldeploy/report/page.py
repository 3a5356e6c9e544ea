"""The page: HTML with drawings in it, which needs nothing else. PURE."""

from collections.abc import Mapping
from typing import Any

import jinja2

from modeldeploy.evidence import values_of
from modeldeploy.groups import judged_groups
from modeldeploy.report.chart import HEIGHT, LEFT, RIGHT, WIDTH, clock
from modeldeploy.report.charts import charts_of
from modeldeploy.report.story import JudgedRollout


def page_of(rollout: JudgedRollout) -> str:
    """Return the HTML. Everything that a cluster wrote is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("modeldeploy.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        rollout=rollout,
        charts=list(charts_of(rollout)),
        numbers=numbers,
        groups=judged_groups,
        clock=clock,
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
    )


def numbers(metric: Mapping[str, Any], side: str) -> str:
    """Return what one metric's last word says of one side, in a few figures."""
    if "requests" in metric and "bad" in metric:
        total, bad = metric["requests"][side], metric["bad"][side]
        return f"{bad} of {total} bad ({bad / total:.2%})" if total else "no requests"
    value = values_of(metric).get(side)
    return "" if value is None else f"{value:.4g}"
