"""`make bench-drift`: drift of the model server, Evidently and NannyML on the same seeded streams.

    python benchmarks/drift/run.py [--seeds 20]

The peers are installed into `.venvs/drift`; one that cannot be is said so in the README, and the others are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from streams import AFTER, BEFORE, NONE, SCENARIOS, SETTINGS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PEERS = {"evidently_peer": "evidently==0.7.23", "nannyml_peer": "nannyml==0.13.1"}
#: A report of Evidently takes up to half a second: it sees so many times fewer seeds, the first ones.
FEWER = {"evidently_peer": 4}
#: Evidently 0.7.23 asks for no upper bound, and does not import with pandas 3.
PANDAS = "pandas<3"
BEGIN, END = "<!-- tables: written by make bench-drift -->", "<!-- end of tables -->"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venvs" / "drift")
    options = parser.parse_args()
    python = _environment(options.venv)
    pythons = {"ours": Path(sys.executable), **dict.fromkeys(PEERS, python)}
    results = _watch_all(pythons, options.seeds)
    (HERE / "results.json").write_text(json.dumps({"seeds": options.seeds, "results": results}, indent=1) + "\n")
    text = tables(options.seeds, results)
    page = (HERE / "README.md").read_text()
    before, rest = page.split(BEGIN)
    (HERE / "README.md").write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}")
    print(text)
    return 0


def _environment(folder: Path) -> Path:
    """The interpreter of an environment with the peers that can be installed."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PANDAS]
    if subprocess.run([*pip, *PEERS.values()], check=False).returncode:
        for package in PEERS.values():
            subprocess.run([*pip, package], check=False)
    return python


def _watch_all(pythons: dict[str, Path], seeds: int) -> dict[str, dict[str, Any]]:
    """What all monitors say, by setting. They run side by side: nothing here is timed."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        started = {
            (f"{rows}/{chunk}", name): threads.submit(_watch, python, name, [seeds // FEWER.get(name, 1), rows, chunk])
            for name, python in sorted(pythons.items())
            for rows, chunk in SETTINGS
        }
    found: dict[str, dict[str, Any]] = {f"{rows}/{chunk}": {} for rows, chunk in SETTINGS}
    for name in pythons:
        for setting, by_monitor in found.items():
            by_monitor[name] = started[setting, name].result()
    return found


def _watch(python: Path, name: str, numbers: list[int]) -> dict[str, Any]:
    # One thread: several only take turns on data of this size.
    environ = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [str(python), str(HERE / "watch.py"), name, *map(str, numbers)]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def tables(seeds: int, results: dict[str, dict[str, Any]]) -> str:
    """What was measured, as Markdown."""
    machine = f"{os.cpu_count()} processors, {platform.system()}, Python {platform.python_version()}"
    lines = [f"{machine}; {seeds} seeds, {seeds // FEWER['evidently_peer']} for Evidently.", ""]
    first = next(iter(results.values()))
    for name, package in PEERS.items():
        if "missing" in first[name]:
            lines += [f"{package} could not be installed here ({first[name]['missing']}); the others are measured.", ""]
        else:
            lines += [f"{package.partition('==')[0]} {first[name]['version']}.", ""]
    for setting, by_monitor in results.items():
        rows, chunk = map(int, setting.split("/"))
        found = {way: by for one in by_monitor.values() for way, by in one.get("found", {}).items()}
        lines += [f"### A reference of {rows:,} rows, chunks of {chunk:,}", "", f"| | {' | '.join(found)} |"]
        lines += [f"|---|{'---|' * len(found)}"]
        cells = [f"{sum(map(bool, by[NONE])) / len(by[NONE]):.0%}" for by in found.values()]
        lines += [f"| streams without a change that were called drifted | {' | '.join(cells)} |"]
        chunks = BEFORE // chunk + AFTER // chunk
        share = [sum(map(len, by[NONE])) / (chunks * len(by[NONE])) for by in found.values()]
        lines += [f"| chunks of them | {' | '.join(f'{one:.1%}' for one in share)} |"]
        for scenario in SCENARIOS:
            if scenario != NONE:
                lines += [f"| {scenario} | {' | '.join(_delay(by[scenario], chunk) for by in found.values())} |"]
        lines += [""]
    return "\n".join(lines)


def _delay(chunks: list[int | None], size: int) -> str:
    """The median of the requests until a change was told, and how many streams it was told in."""
    told = [size * number for number in chunks if number is not None]
    if not told:
        return "never"
    share = "" if len(told) == len(chunks) else f" in {len(told) / len(chunks):.0%}"
    return f"{statistics.median(told):,.0f}{share}"


if __name__ == "__main__":
    sys.exit(main())
