"""What it costs to bake a package into an image, next to the least that any push does, and to oras for Python.

    python benchmarks/baking.py [--megabytes 500] [--oras path/to/python]

Each is a process of its own that pushes the same file to Debian's docker-registry on loopback, into a repository that
has nothing yet. The least is to hash the file once and to send it once. Best of the turns, which take place one by one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from report import Row, Table, keep, publish

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from registries import missing, push_image, registry

TURNS = 5
MEGABYTE = 10**6
FLOOR = """
import hashlib, http.client, sys, urllib.parse
host, name, path = sys.argv[1:]
with open(path, "rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    connection = http.client.HTTPConnection(host)
    connection.request("POST", f"/v2/{name}/blobs/uploads/")
    answer = connection.getresponse(); answer.read()
    where = urllib.parse.urlsplit(answer.headers["location"])
    size = file.seek(0, 2); file.seek(0)
    address = f"{where.path}?{where.query}&digest=sha256:{digest}"
    connection.request("PUT", address, file, {"content-length": str(size)})
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
"""
ORAS = """
import sys
from oras.client import OrasClient
host, name, path = sys.argv[1:]
OrasClient(insecure=True).push(f"{host}/{name}:1", files=[path], disable_path_validation=True)
"""


def run(command: Sequence[str]) -> tuple[float, float]:
    """Run a process; return its seconds, and the most memory that it had in MB."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        sys.exit(f"{command[0]} failed: {said.decode()}")
    return time.monotonic() - began, usage.ru_maxrss / 1000


def measure(host: str, folder: Path, oras: str) -> dict[str, tuple[float, float]]:
    """Return the seconds and the MB of each way to push, the best of the turns."""
    file = str(folder / "model.bin")
    base = f"{host}/server:1"
    push_image(base, {"etc/os-release": b"ID=none"})
    best: dict[str, tuple[float, float]] = {}
    for turn in range(TURNS):
        bake = ["-m", "modeldeploy", "bake", str(folder), "--base", base, "--push", f"{host}/bake/{turn}:1"]
        ways = {
            "floor": [sys.executable, "-c", FLOOR, host, f"floor/{turn}", file],
            "bake": [sys.executable, *bake],
            **({"oras": [oras, "-c", ORAS, host, f"oras/{turn}", file]} if oras else {}),
        }
        for name, command in ways.items():
            seconds, memory = run(command)
            before = best.get(name, (seconds, memory))
            best[name] = min(seconds, before[0]), min(memory, before[1])
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--oras", default="", help="a Python that has oras; default: it is left out")
    options = parser.parse_args()
    if why := missing():
        parser.error(why)
    with tempfile.TemporaryDirectory(prefix="modeldeploy-bench-") as place:
        package = Path(place) / "package"
        package.mkdir()
        with (package / "model.bin").open("wb") as file:
            for _ in range(options.megabytes):
                file.write(os.urandom(MEGABYTE))
        with registry(Path(place)) as host:
            best = measure(host, package, options.oras)
    size = f"{options.megabytes} MB"
    (floor, _), (seconds, memory) = best["floor"], best["bake"]
    rows = [
        Row(what=f"hash {size} once and send it once, the least of any push", value=round(floor, 2), unit="s"),
        Row(what=f"modeldeploy bake of {size}", value=round(seconds, 2), unit="s"),
        Row(what="bake, times the least", value=round(seconds / floor, 2), unit="times", goal=3),
        Row(what="memory of bake", value=round(memory), unit="MB", goal=100),
    ]
    if "oras" in best:
        rows += [
            Row(what=f"oras for Python, push of {size}", value=round(best["oras"][0], 2), unit="s"),
            Row(what="memory of oras", value=round(best["oras"][1]), unit="MB"),
        ]
    keep(Table(name="baking", title="A package into an image", rows=tuple(rows)))
    print(publish())
    missed = [row.what for row in rows if row.goal is not None and row.value > row.goal]
    for what in missed:
        print(f"goal missed: {what}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
