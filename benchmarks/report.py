"""How a benchmark's figures are kept and shown. Used by `run.py`.

Each file in `benchmarks/results` holds one table as JSON: `title`, `machine`, `rows`, each row with
`what`, `value`, `unit` and `goal` (the largest value that is all right; null where there is none).
"""

import json
import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
_BEGIN, _END = "<!-- tables: written by make bench -->", "<!-- end of tables -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. `goal` is the largest value that is all right."""

    what: str
    value: float
    unit: str
    goal: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Figures that belong together. `shown` is a Markdown table to show instead of a line for each figure."""

    name: str
    title: str
    rows: tuple[Row, ...]
    shown: str = ""


def keep(table: Table) -> None:
    """Write the table as JSON."""
    body = {
        "title": table.title,
        "machine": machine(),
        "rows": [asdict(row) for row in table.rows],
        "shown": table.shown,
    }
    (FOLDER / "results").mkdir(exist_ok=True)
    (FOLDER / "results" / f"{table.name}.json").write_text(json.dumps(body, indent=2) + "\n")


def publish() -> str:
    """Write all tables that were kept into the README, and return them as Markdown."""
    kept = [json.loads(file.read_text()) for file in sorted((FOLDER / "results").glob("*.json"))]
    tables = "\n\n".join(_markdown(body) for body in kept if {"title", "machine", "rows"} <= body.keys())
    readme = FOLDER / "README.md"
    between = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
    readme.write_text(between.sub(lambda _: f"{_BEGIN}\n\n{tables}\n\n{_END}", readme.read_text()))
    return tables


def machine() -> str:
    """What the figures were taken on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def _markdown(body: dict[str, object]) -> str:
    rows = body["rows"]
    assert isinstance(rows, list)
    head = [f"### {body['title']}", "", f"{body['machine']}", ""]
    if body.get("shown"):
        return "\n".join([*head, str(body["shown"])])
    lines = [
        *head,
        "| what | measured | goal |",
        "|---|---|---|",
    ]
    for row in rows:
        goal = "" if row.get("goal") is None else f"at most {row['goal']:g} {row['unit']}"
        lines.append(f"| {row['what']} | {row['value']:g} {row['unit']} | {goal} |")
    return "\n".join(lines)
