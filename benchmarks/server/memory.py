"""`make bench-memory`: the server's memory over a million requests, each kind in turn, and over 100,000 large answers.

    python benchmarks/server/memory.py [--load mixed|large] [--requests 1000000] [--steps 10]

`mixed`: wrk sends rows as lists and as objects, probabilities, tensors, tensors as bytes, bad input and requests with
ids and traces of their own, over kept connections. `large`: each request has an id of its own and 1,700 rows, whose
probabilities make an answer of 100 kB; feedback may name any of them, and `monitoring/window.py` bounds what is kept.
After each step the memory of the server is read: resident, and what belongs to it alone. Exits with 1 when the second
half of the requests cost more than `GROWTH_MEGABYTES`: what the server remembers (the last 10 000 predictions, the
drift's rows) is full long before.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

from models import train
from run import running
from servers import CONTESTANTS

HERE = Path(__file__).parent
GROWTH_MEGABYTES = 5.0

LUA = """
local rows = '[[5.1,3.5,1.4,0.2],[6.2,2.9,4.3,1.3]]'
local object = '{"x0":5.1,"x1":3.5,"x2":1.4,"x3":0.2}'
local tensor = '{"name":"x","shape":[1,4],"datatype":"FP64","data":[5.1,3.5,1.4,0.2]}'
local head = '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","parameters":{"binary_data_size":32}}]}'
local json = {["content-type"] = "application/json"}
local binary = {["inference-header-content-length"] = #head}
local traced = {["content-type"] = "application/json", ["traceparent"] =
  "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
local function post(path, headers, body) return wrk.format("POST", path, headers, body) end
local requests = {
  post("/predict", json, '{"instances":' .. rows .. '}'),
  post("/predict", json, '{"instances":[' .. object .. ']}'),
  post("/predict", traced, '{"instances":' .. rows .. ',"parameters":{"probabilities":true}}'),
  post("/v1/models/iris:predict", json, '{"instances":' .. rows .. '}'),
  post("/v2/models/iris/infer", json, '{"inputs":[' .. tensor .. ']}'),
  post("/v2/models/iris/infer", binary, head .. string.rep("\\0", 32)),
  post("/invocations", json, '{"inputs":' .. rows .. '}'),
  post("/predict", json, '{"instances":[["a",1,2,3]]}'),
  post("/predict", json, '{"instances":['),
  wrk.format("GET", "/metrics"),
}
local many = #requests - 1
local count = 0
request = function()
  count = count + 1
  if count % 5000 == 0 then return requests[#requests] end
  if count % 7 == 0 then
    local headers = {["content-type"] = "application/json", ["x-request-id"] = math.random(1e9) .. "-" .. count}
    return post("/predict", headers, '{"instances":' .. rows .. '}')
  end
  return requests[count % many + 1]
end
"""

LARGE = """
local rows = string.rep('[5.1,3.5,1.4,0.2],[6.2,2.9,4.3,1.3],', 849) .. '[5.1,3.5,1.4,0.2],[6.2,2.9,4.3,1.3]'
local body = '{"parameters":{"probabilities":true},"instances":[' .. rows .. ']}'
local count = 0
request = function()
  count = count + 1
  local headers = {["content-type"] = "application/json", ["x-request-id"] = math.random(1e9) .. "-" .. count}
  return wrk.format("POST", "/predict", headers, body)
end
"""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is sent, how often, and where the README has its table."""

    script: str
    requests: int
    connections: int
    results: str
    mark: str


LOADS = {
    "mixed": Load(script=LUA, requests=1_000_000, connections=16, results="memory.json", mark="memory"),
    "large": Load(script=LARGE, requests=100_000, connections=4, results="memory_large.json", mark="large answers"),
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """The server after so many requests in all."""

    requests: int
    seconds: float
    resident_megabytes: float
    private_megabytes: float


def main() -> int:
    options = _options()
    load = LOADS[options.load]
    one = next(contestant for contestant in CONTESTANTS if contestant.name == "modeldeploy")
    with tempfile.TemporaryDirectory(prefix="modeldeploy-memory-") as folder:
        train(Path(folder) / "models")
        script = Path(folder) / "requests.lua"
        script.write_text(load.script)
        with running(one, Path(sys.executable), Path(folder), "iris") as (pid, port, _):
            steps = measure(pid, port, script, load.connections, options.requests or load.requests, options.steps)
            print("answers by code:", _codes(port))
    (HERE / load.results).write_text(json.dumps([asdict(step) for step in steps], indent=1) + "\n")
    print(publish(steps, load.mark))
    growth = grown(steps)
    if growth > GROWTH_MEGABYTES:
        print(f"goal missed: {growth:.1f} MB more after the second half", file=sys.stderr)
        return 1
    return 0


def measure(pid: int, port: int, script: Path, connections: int, requests: int, steps: int) -> list[Step]:
    """Read the memory at the start, and after each of the steps."""
    began, sent = time.monotonic(), 0
    found = [_step(pid, 0, 0.0)]
    for number in range(1, steps + 1):
        while sent < requests * number / steps:
            sent += _load(port, script, connections)
        found.append(_step(pid, sent, time.monotonic() - began))
        print(found[-1], flush=True)
    return found


def grown(steps: list[Step]) -> float:
    """Megabytes that the second half of the requests cost."""
    return steps[-1].private_megabytes - steps[len(steps) // 2].private_megabytes


def publish(steps: list[Step], mark: str) -> str:
    """Write the table between the README's marks, and return it."""
    lines = ["| requests | after, s | resident, MB | of it private, MB |", "|---|---|---|---|"]
    lines += [
        f"| {step.requests:,} | {step.seconds:.0f} | {step.resident_megabytes:.1f} | {step.private_megabytes:.1f} |"
        for step in steps
    ]
    text = (
        "\n".join(lines) + f"\n\nThe second half cost {grown(steps):.1f} MB (goal: at most {GROWTH_MEGABYTES:g} MB).\n"
    )
    readme = HERE / "README.md"
    start, end = f"<!-- {mark}: written by make bench-memory -->", f"<!-- end of {mark} -->"
    before, rest = readme.read_text().split(start)
    readme.write_text(f"{before}{start}\n\n{text}\n{end}{rest.split(end)[1]}")
    return text


def _step(pid: int, requests: int, seconds: float) -> Step:
    resident, private = memory_of(pid)
    return Step(
        requests=requests,
        seconds=round(seconds, 1),
        resident_megabytes=round(resident, 1),
        private_megabytes=round(private, 1),
    )


def memory_of(pid: int) -> tuple[float, float]:
    """Megabytes of a process: resident, and what of that is its own."""
    rollup = dict(re.findall(r"^(\w+): +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE))
    private = int(rollup["Private_Clean"]) + int(rollup["Private_Dirty"])
    return int(rollup["Rss"]) * 1024 / 1e6, private * 1024 / 1e6


def _load(port: int, script: Path, connections: int) -> int:
    """Five seconds of wrk; how many requests were answered."""
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        "-d5s",
        "--timeout",
        "10s",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}/",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"LC_ALL": "C"})
    count = re.search(r"(\d+) requests in", done.stdout)
    if count is None or "Socket errors" in done.stdout:
        raise SystemExit(f"wrk did not get its answers:\n{done.stdout}")
    return int(count[1])


def _codes(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    return {
        code: int(float(count))
        for code, count in re.findall(r'^modeldeploy_requests_total{code="(\d+)".*} (.+)$', text, re.MULTILINE)
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", choices=LOADS, default="mixed")
    parser.add_argument("--requests", type=int, help="default: 1,000,000 of the mixed load, 100,000 of the large one")
    parser.add_argument("--steps", type=int, default=10)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
