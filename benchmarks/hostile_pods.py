"""What pods that answer anything cost the operator: its memory, and how long its liveness probe waits meanwhile.

    python benchmarks/hostile_pods.py [SECONDS] [SEED]        (make bench-hostile)

The operator of a sandbox judges canaries whose pods answer `/metrics` and the port of recent predictions with what no
model server answers: pages without an end, deep JSON, compressed bombs, wrong types, redirects, drips. The goals leave
room under the chart's limit of memory and the timeout of the probe.
"""

import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from report import Row, Table, keep, publish

from modeldeploy.kube import MODELDEPLOYMENTS, PODS, Kube, Resource
from modeldeploy.stand import Stand, stand, wait_until

MODELS = 3
GATEWAYS = Resource("gateway.networking.k8s.io", "v1", "gateways")
#: The server of every pod. Probes get what they want, so that the pods are ready and asked.
HOSTILE = r"""
import gzip, os, random, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST, MIB, DICE = os.environ["MODEL_SERVER_HOST"], 2 ** 20, random.Random(int(os.environ["SEED"]))
NUMBER = b'modeldeploy_requests_total{model="m",version="1",revision="r",code="200"} '
PIECES = [
    (b"", NUMBER + b"1\n", 64 * MIB), (b"", NUMBER + b"+Inf\n", MIB), (b"", NUMBER + b"9" * 400 + b"\n", MIB),
    (b"modeldeploy_outputs_total{output=\"", b"a", 64 * MIB), (b"", b"\x00\xff", 16 * MIB),
    (b"", b"# HELP x y\n", 64 * MIB),
    (b'{"cursor":[1],"predictions":[', b'{"request":"","size":1},', 64 * MIB),
    (b'{"cursor":[1],"predictions":', b"[", 32 * MIB),
    (b'{"cursor":[', b"1,", 32 * MIB), (b'{"cursor":[1],"predictions":[{"request":"', b"a", 32 * MIB),
    (b'{"phase":"', b"x", 8 * MIB), (b"", b"[{},", 32 * MIB), (b"[" * 100000, b"", 0), (b"null", b"", 0), (b"", b"", 0),
]

class Pod(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path in ("/livez", "/readyz"):
            return self.answer(b'{"status":"ok","phase":"ready","message":""}')
        self.rfile.read(int(self.headers.get("content-length", 0)))
        kind = DICE.randrange(8)
        if kind == 0:
            return self.redirect()
        if kind == 1:
            return self.bomb()
        if kind == 2:
            return self.drip()
        begin, piece, size = DICE.choice(PIECES)
        self.send_response(DICE.choice([200, 200, 200, 200, 500]))
        self.send_header("content-type", "application/json")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(begin)
        many = piece * (MIB // max(1, len(piece)))
        for _ in range(size // MIB):
            self.wfile.write(many)
        self.close_connection = True

    do_POST = do_GET

    def answer(self, body, **headers):
        self.send_response(200)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def redirect(self):
        self.send_response(307)
        self.send_header("location", "http://127.0.0.1:1/")
        self.send_header("content-length", "0")
        self.end_headers()

    def bomb(self):
        self.answer(gzip.compress(b" " * 64 * MIB), **{"content-encoding": "gzip"})

    def drip(self):
        self.send_response(200)
        self.send_header("content-length", "100")
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b" ")
            time.sleep(0.3)

    def log_message(self, *_): pass

class Server(ThreadingHTTPServer):
    daemon_threads = True
    def handle_error(self, *_): pass

ports = [int(os.environ["MODEL_SERVER_PORT"]), int(os.environ["MODEL_SERVER_SHADOW_PORT"])]
servers = [Server((HOST, port), Pod) for port in ports]
threading.Thread(target=servers[1].serve_forever, daemon=True).start()
servers[0].serve_forever()
"""


def model(name: str, version: int, seed: int) -> dict[str, Any]:
    """Return a ModelDeployment whose pods are hostile, judged each second by the answers of all ports."""
    metrics = [{"name": "errors", "max": 0.5}, {"name": "shadow-agreement", "min": 0.9}]
    canary = {
        "steps": [{"setMirrorRoute": {"percentage": 100}}, {"analysis": {"maxDuration": "1h"}}],
        "analysis": {"interval": "1s", "warmup": "0s", "metrics": metrics},
        "trafficRouting": {"gatewayAPI": {"parentRefs": [{"name": "public"}]}, "propagationSeconds": 0},
    }
    # On this one machine pods take processor time from the operator; in a cluster they are elsewhere.
    container: dict[str, Any] = {"name": "server", "command": ["nice", "-n", "19", sys.executable, "-c", HOSTILE]}
    container["env"] = [{"name": "SEED", "value": str(seed + version)}]
    spec = {
        "model": {"storageUri": "file:///nowhere"},
        "replicas": 2,
        "server": {"podTemplate": {"spec": {"containers": [container]}}},
        "strategy": {"canary": canary},
    }
    return {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": spec,
    }


def measure(folder: Path, seconds: float, seed: int) -> Table:
    """Let the operator judge hostile canaries for a while."""
    with stand(folder) as running, Kube.connect(running.kubeconfig) as kube:
        listener = {"name": "http", "port": 80, "protocol": "HTTP"}
        gateway = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "public"}}
        kube.apply(GATEWAYS, {**gateway, "spec": {"gatewayClassName": "sandbox", "listeners": [listener]}})
        names = [f"hostile-{number}" for number in range(MODELS)]
        for version in (1, 2):
            for name in names:
                kube.apply(MODELDEPLOYMENTS, model(name, version, seed))
            wanted = "Healthy" if version == 1 else "Progressing"
            for name in names:
                wait_until(partial(is_at, kube, name, wanted), f"{name} is {wanted}", seconds=90)
        idle = memory(running)
        times = probe(kube, running, seconds)
        messages = {name: kube.get(MODELDEPLOYMENTS, name)["status"]["message"] for name in names}
        running.operator.check()
        print("\n".join(f"{name}: {message}" for name, message in messages.items()))
        peak = memory(running, "VmHWM")
    title = f"An operator and {MODELS} canaries of hostile pods, for {seconds:g} s"
    rows = (
        Row(what="RSS before", value=idle, unit="MiB"),
        Row(what="RSS at its peak", value=peak, unit="MiB", goal=200),
        Row(what="liveness probe, median", value=round(statistics.median(times), 1), unit="ms"),
        Row(what=f"liveness probe, slowest of {len(times)}", value=round(max(times), 1), unit="ms", goal=100),
    )
    return Table(name="hostile_pods", title=title, rows=rows)


def is_at(kube: Kube, name: str, phase: str) -> bool:
    """Whether a model is in a phase."""
    return bool(kube.get(MODELDEPLOYMENTS, name).get("status", {}).get("phase") == phase)


def memory(running: Stand, field: str = "VmRSS") -> float:
    """Return the memory of the operator's process in MiB."""
    lines = Path(f"/proc/{running.operator.pid}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024, 1)


def probe(kube: Kube, running: Stand, seconds: float) -> list[float]:
    """Ask `/healthz` ten times a second; return how long each answer took, in milliseconds."""
    (pod,) = kube.list(PODS, "modeldeploy", labels="app.kubernetes.io/component=operator")
    times: list[float] = []
    end = time.monotonic() + seconds
    with httpx.Client(base_url=f"http://{pod['status']['podIP']}:8081", timeout=30) as client:
        while time.monotonic() < end:
            began = time.perf_counter()
            client.get("/healthz").raise_for_status()
            times.append((time.perf_counter() - began) * 1000)
            time.sleep(0.1)
    return times


if __name__ == "__main__":
    given = [float(word) for word in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        table = measure(Path(folder), *(given + [60, 1][len(given) :]))
    keep(table)
    publish()
    for row in table.rows:
        print(f"{row.what}: {row.value} {row.unit}" + (f" (goal: {row.goal:g})" if row.goal else ""))
