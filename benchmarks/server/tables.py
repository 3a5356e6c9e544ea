"""Medians and ratios of the measurements, as tables in this folder's README."""

from __future__ import annotations

import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any

START, END = "<!-- tables: written by make bench-server -->", "<!-- end of tables -->"
BASES = ("kserve", "mlserver")


def publish(results: Path, readme: Path) -> str:
    """Write the tables between the README's marks, and return them."""
    cells = json.loads(results.read_text())
    text = "\n".join(
        [
            f"{os.cpu_count()} processors, {platform.system()}, Python {platform.python_version()}; wrk shares them.\n",
            "### Requests per second (median of rounds)\n",
            _table(cells, "requests_per_second", "{:,.0f}"),
            "### As a multiple of the better of KServe and MLServer without batching\n",
            _ratios(cells),
            "### Processor time: how many times less than the better of KServe and MLServer without batching\n",
            _cpu_ratios(cells),
            "### Processor time per request, microseconds (the steadier figure)\n",
            _table(cells, "cpu_microseconds", "{:,.0f}"),
            "### 99th percentile of the latency, milliseconds\n",
            _table(cells, "p99_milliseconds", "{:,.1f}"),
            "### Start to ready, seconds, and resident memory under load, MB\n",
            _once(cells),
        ]
    )
    page = readme.read_text()
    before, rest = page.split(START)
    readme.write_text(f"{before}{START}\n\n{text}\n{END}{rest.split(END)[1]}")
    return text


def _medians(cells: list[dict[str, Any]], field: str) -> dict[tuple[str, str, int], float]:
    grouped: dict[tuple[str, str, int], list[float]] = {}
    for cell in cells:
        grouped.setdefault((cell["server"], cell["work"], cell["concurrency"]), []).append(cell[field])
    return {key: statistics.median(values) for key, values in grouped.items()}


def _grid(cells: list[dict[str, Any]], value: Any) -> str:
    columns = list(dict.fromkeys((cell["work"], cell["concurrency"]) for cell in cells))
    servers = list(dict.fromkeys(cell["server"] for cell in cells))
    head = "| server | " + " | ".join(f"{work}, c={concurrency}" for work, concurrency in columns) + " |"
    lines = [head, "|---" * (len(columns) + 1) + "|"]
    for server in servers:
        lines.append(f"| {server} | " + " | ".join(value((server, *column)) for column in columns) + " |")
    return "\n".join(lines) + "\n"


def _table(cells: list[dict[str, Any]], field: str, form: str) -> str:
    medians = _medians(cells, field)
    return _grid(cells, lambda key: form.format(medians[key]) if key in medians else "")


def _ratios(cells: list[dict[str, Any]]) -> str:
    medians = _medians(cells, "requests_per_second")

    def ratio(key: tuple[str, str, int]) -> str:
        base = max((medians.get((name, *key[1:]), 0.0) for name in BASES), default=0.0)
        return f"{medians[key] / base:.1f}" if base and key in medians else ""

    return _grid(cells, ratio)


def _cpu_ratios(cells: list[dict[str, Any]]) -> str:
    medians = _medians(cells, "cpu_microseconds")

    def ratio(key: tuple[str, str, int]) -> str:
        base = min((medians[(name, *key[1:])] for name in BASES if medians.get((name, *key[1:]))), default=0.0)
        return f"{base / medians[key]:.1f}" if base and medians.get(key) else ""

    return _grid(cells, ratio)


def _once(cells: list[dict[str, Any]]) -> str:
    lines = ["| server | start | memory | errors |", "|---|---|---|---|"]
    for server in dict.fromkeys(cell["server"] for cell in cells):
        own = [cell for cell in cells if cell["server"] == server]
        start = statistics.median(cell["start_seconds"] for cell in own)
        memory = statistics.median(cell["rss_megabytes"] for cell in own)
        lines.append(f"| {server} | {start:.1f} | {memory:.0f} | {sum(cell['errors'] for cell in own)} |")
    return "\n".join(lines) + "\n"
