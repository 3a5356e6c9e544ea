"""What steps around a model cost a prediction: none, pre.py and post.py that change nothing, asked by wrk in turns.

`python benchmarks/server/steps.py [--before FOLDER]`; FOLDER is a checkout of another version, whose server serves the
package without steps too. wrk must be installed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from data_quality import SCRIPT, measure, package, server
from sklearn.datasets import load_breast_cancer

COLUMNS = "import numpy as np\ndef transform(inputs):\n    return np.column_stack(list(inputs.values()))\n"
ROWS = "def transform(rows: list):\n    return [list(row.values()) for row in rows]\n"
SAME = "def transform(outputs):\n    return outputs\n"
STEPS = {
    "no steps": {},
    "a post.py that changes nothing": {"post.py": SAME},
    "a pre.py of columns": {"pre.py": COLUMNS},
    "a pre.py of rows": {"pre.py": ROWS},
    "a pre.py of columns and a post.py": {"pre.py": COLUMNS, "post.py": SAME},
}


def main() -> None:
    """Measure in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        (folder / "model").mkdir()
        package(folder / "model")
        running = {}
        for number, (name, files) in enumerate(STEPS.items()):
            one = folder / str(number)
            shutil.copytree(folder / "model", one)
            for file, text in files.items():
                (one / file).write_text(text)
            running[name] = stack.enter_context(server(one))
        if given.before is not None:
            before = server(folder / "model", source=given.before.resolve() / "server_image")
            running = {"no steps, the version before": stack.enter_context(before), **running}
        body, script = folder / "body.json", folder / "wrk.lua"
        body.write_text(json.dumps({"instances": load_breast_cancer().data[:1].tolist()}))
        script.write_text(SCRIPT)
        rounds = [
            {name: measure(*one, script, body, given.seconds) for name, one in running.items()}
            for _ in range(given.rounds)
        ]
    print("| package | requests per second | processor time of a request |\n|---|---|---|")
    for name in running:
        rate = statistics.median(one[name].rate for one in rounds)
        cost = statistics.median(one[name].cost for one in rounds)
        print(f"| {name} | {rate:.0f} | {cost * 1e6:.0f} µs |")
    if given.before is not None:
        first, second = list(running)[:2]
        ratio = statistics.median(one[second].cost / one[first].cost for one in rounds)
        print(f"\nWithout steps, {ratio - 1:+.1%} processor time next to the version before (median of the rounds).")


if __name__ == "__main__":
    main()
