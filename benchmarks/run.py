"""`make bench`: measure, keep the figures as JSON, and write the tables into the README.

    python benchmarks/run.py

Exits with 1 when a figure misses its goal.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import first_prediction
import sandbox
from report import Table, keep, publish


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="modeldeploy-bench-") as folder:
        tables: list[Table] = [first_prediction.measure(Path(folder)), asyncio.run(sandbox.measure())]
    for table in tables:
        keep(table)
    print(publish())
    missed = [row.what for table in tables for row in table.rows if row.goal is not None and row.value > row.goal]
    for what in missed:
        print(f"goal missed: {what}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
