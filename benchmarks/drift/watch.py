"""Lets one monitor watch all streams, in the environment that it is installed in; `run.py` starts it.

    python watch.py ours|evidently_peer|nannyml_peer SEEDS REFERENCE_ROWS CHUNK_ROWS

Prints JSON: for each way to read the monitor and each scenario, one entry a seed. Without a change it is the chunks
that were called drifted, else the number of chunks after the change until the first that was, null for none.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from streams import BEFORE, NONE, SCENARIOS, reference_of, stream_of

sys.path.append(str(Path(__file__).parent / "peers"))


def main() -> None:
    name, seeds, rows, chunk = sys.argv[1], *map(int, sys.argv[2:])
    before = BEFORE // chunk
    try:
        monitor = importlib.import_module(name)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    found: dict[str, dict[str, list[Any]]] = {}
    for seed in range(seeds):
        reference = reference_of(seed, rows)
        for scenario in SCENARIOS:
            # A monitor with a memory has seen what came before the change; the others have none.
            skipped = 0 if name == "ours" or scenario == NONE else before
            told = _watched(monitor.monitor_of(reference, chunk), stream_of(seed, scenario, chunk), skipped)
            for way, numbers in told.items():
                later = (number - before for number in numbers if number > before)
                entry = numbers if scenario == NONE else next(later, None)
                found.setdefault(way, {}).setdefault(scenario, []).append(entry)
        print(f"{name}: seed {seed + 1} of {seeds}", file=sys.stderr, flush=True)
    print(json.dumps({"version": getattr(monitor, "VERSION", ""), "found": found}))


def _watched(look: Any, chunks: list[Any], skipped: int) -> dict[str, list[int]]:
    """The numbers of the chunks after which each way to read the monitor says drift, from 1 on."""
    told: dict[str, list[int]] = {}
    for number, chunk in enumerate(chunks[skipped:], skipped + 1):
        for way, is_told in look(chunk).items():
            told.setdefault(way, []).extend([number] if is_told else [])
        if skipped and all(told.values()):
            break
    return told


if __name__ == "__main__":
    main()
