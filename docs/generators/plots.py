"""The plots of the pages under docs/explanation, from the benchmarks' own results. Used by `docs/generate.py`.

Text stays text in the SVG, and nothing in it depends on the day or the machine.
"""

import io
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "modeldeploy", "font.size": 9})

from matplotlib.figure import Figure  # noqa: E402 - the backend is chosen above

JUDGES = (
    "modeldeploy",
    "Argo Rollouts, failureLimit 0",
    "Argo Rollouts, failureLimit 3",
    "Flagger, threshold 5",
    "z-test at every look",
)
_COLORS = ("#3949ab", "#ef6c00", "#ffb74d", "#00897b", "#8d6e63")


def false_aborts(root: Path) -> str:
    """Return the plot of how often each judge aborts a healthy canary."""
    found = _rows(root, ": aborted by ")
    scenarios = list(dict.fromkeys(scenario for scenario, _ in found))
    figure = _bars(scenarios, {judge: [100 * found[one, judge] for one in scenarios] for judge in JUDGES})
    figure.axes[0].set_xlabel("healthy canaries that were aborted (percent of 20,000 runs)")
    return _svg(figure)


def detection(root: Path) -> str:
    """Return the plot of how many intervals each judge needs to find a worse canary."""
    found = _rows(root, ": found by ", " after")
    scenarios = list(dict.fromkeys(scenario for scenario, _ in found))
    figure = _bars(scenarios, {judge: [found[one, judge] for one in scenarios] for judge in JUDGES})
    figure.axes[0].set_xlabel("intervals until the worse canary is aborted (median of 20,000 runs)")
    return _svg(figure)


def _rows(root: Path, between: str, after: str = "") -> dict[tuple[str, str], float]:
    """Return values by scenario and judge."""
    rows = json.loads((root / "benchmarks" / "results" / "analysis.json").read_text())["rows"]
    parts = (
        (row["what"].removesuffix(after).partition(between), row["value"]) for row in rows if between in row["what"]
    )
    return {(scenario, judge): value for (scenario, _, judge), value in parts}


def _bars(scenarios: list[str], values: dict[str, list[float]]) -> Figure:
    figure = Figure(figsize=(8, 0.9 * len(scenarios) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / len(values)
    for number, (judge, numbers) in enumerate(values.items()):
        at = [position + number * height for position in range(len(scenarios))]
        drawn = axes.barh(at, numbers, height=height, label=judge, color=_COLORS[number])
        axes.bar_label(drawn, fmt="%.3g", padding=2, fontsize=7)
    axes.set_yticks([position + 0.4 - height / 2 for position in range(len(scenarios))], scenarios)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.08)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
