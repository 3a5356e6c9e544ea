"""How the dashboard carries many models: first paint, delay of an update, memory.

    python benchmarks/dashboard.py [MODELS]

The models lie in a sandbox's API server without an operator; their status is written here. First paint is Chromium's
own (first-contentful-paint, from the request on). The delay is from the moment before a status is written until the row
arrives as a server-sent event: it contains the API server's own work, so that the dashboard's share is smaller.
"""

import gc
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import sync_playwright

from modeldeploy.kube import MODELDEPLOYMENTS, Kube
from modeldeploy.stand import Child, install_crd, start_sandbox, wait_until
from modeldeploy.stand.process import environment

MODELS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
UPDATES = 50
PAINTS = 5
_METRIC = {
    "name": "errors",
    "verdict": "Undecided",
    "requests": {"canary": 900, "stable": 1800},
    "bad": {"canary": 3, "stable": 5},
    "badRate": {"canary": 0.0033, "stable": 0.0028},
    "evidence": 1.2,
    "failAt": 60,
}


def status(number: int) -> dict[str, Any]:
    """A rollout on its way, with an analysis of a hundred samples."""
    sample = {"weight": 20, "metrics": {"errors": {"counts": [9, 0, 18, 0], "evidence": 1}}}
    samples = [{**sample, "at": f"2026-05-01T12:{i // 60:02}:{i % 60:02}Z"} for i in range(100)]
    return {
        "observedGeneration": 1,
        "phase": "Paused" if number % 10 == 0 else "Healthy",
        "message": f"step 2/3: 20 % on 6f8d, paused until promoted ({number})",
        "stableRevision": "5c1a",
        "canaryRevision": "6f8d" if number % 10 == 0 else "",
        "step": "2/3",
        "weights": {"desired": 20},
        "model": {"version": str(number)},
        "analysis": {
            "revision": "6f8d",
            "stable": "5c1a",
            "startedAt": "2026-05-01T12:00:00Z",
            "metrics": [_METRIC],
            "samples": samples,
        },
    }


def write(kube: Kube, number: int) -> None:
    """Make one model with its status."""
    name = f"model-{number:04}"
    steps = [{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}]
    spec = {"model": {"storageUri": f"s3://models/{name}/7"}, "strategy": {"canary": {"steps": steps}}}
    metadata = {"name": name, "labels": {"team": f"team-{number % 20}"}}
    kube.apply(
        MODELDEPLOYMENTS,
        {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelDeployment", "metadata": metadata, "spec": spec},
    )
    kube.merge(MODELDEPLOYMENTS, name, {"status": status(number)}, subresource="status")


def memory_mib(pid: int) -> tuple[float, float]:
    """Resident memory now, and the most that it was."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    resident, highest = (int(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return resident, highest


def paints(link: str) -> Iterator[float]:
    """First paint of the list in seconds, once for each new browser."""
    with sync_playwright() as playwright:
        for _ in range(PAINTS):
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(link)
            page.goto(link.partition("?")[0], wait_until="load")
            assert page.locator("#rows .row").count() == MODELS
            entry = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
            yield page.evaluate(entry) / 1000
            browser.close()


def delays(link: str, kube: Kube) -> list[float]:
    """Seconds from before the write of a status until its row arrives."""
    arrived: dict[str, float] = {}
    listening = threading.Event()

    def read(client: httpx.Client, base: str) -> None:
        with suppress(httpx.HTTPError), client.stream("GET", f"{base}events", timeout=None) as answer:
            for line in answer.iter_lines():
                now = time.perf_counter()
                listening.set()
                if line.startswith("data: [{"):
                    for word in re.findall(r"update-[0-9]+", line):
                        arrived.setdefault(word, now)

    with httpx.Client(follow_redirects=True) as client:
        client.get(link)
        threading.Thread(target=read, args=(client, link.partition("?")[0]), daemon=True).start()
        listening.wait(10)
        time.sleep(1)  # most of the rows that the stream begins with
        gc.freeze()  # what this process has imported would be collected in between, for a tenth of a second
        found = []
        for number in range(UPDATES):
            word, began = f"update-{number}", time.perf_counter()
            patch = {"status": {"message": f"{word} was written"}}
            kube.merge(MODELDEPLOYMENTS, f"model-{number:04}", patch, subresource="status")
            wait_until(lambda word=word: arrived.get(word), f"{word} has arrived", seconds=10)
            found.append(arrived[word] - began)
    return found


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name, start_sandbox(Path(name)):
        kubeconfig = Path(name) / "kubeconfig"
        install_crd(kubeconfig)
        with Kube.connect(kubeconfig) as kube, ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: write(kube, number), range(MODELS)))
            command = [sys.executable, "-m", "modeldeploy", "--kubeconfig", str(kubeconfig), "dashboard"]
            with Child("dashboard", [*command, "--no-browser"], log=Path(name) / "log", env=environment()) as child:
                link = child.wait_for(r"^The dashboard is at (\S+)$", seconds=30)[1]
                wait_until(lambda: _rows(link) == MODELS, f"{MODELS} models are read", seconds=60)
                painted = sorted(paints(link))
                late = sorted(delays(link, kube))
                now, most = memory_mib(child.pid)
    milliseconds = [1000 * seconds for seconds in late]
    print(f"{MODELS} models")
    print(f"first paint: median {statistics.median(painted):.2f} s, longest {painted[-1]:.2f} s of {PAINTS}")
    print(
        f"update, from the write of a status to its row: median {statistics.median(milliseconds):.0f} ms, "
        f"longest {milliseconds[-1]:.0f} ms of {UPDATES}"
    )
    print(f"memory of the dashboard: {now:.0f} MiB resident, {most:.0f} MiB at most")


def _rows(link: str) -> int:
    with httpx.Client(follow_redirects=True) as client:
        client.get(link)
        return client.get(link.partition("?")[0]).text.count('data-key="')


if __name__ == "__main__":
    main()
