"""What judging costs the operator: processor time for 1,000 rollouts with 4 metrics and 4 pods each at 15 s.

    python benchmarks/judging.py          (a row of make bench-operator; about a minute)

The operator runs as a process of its own against the sandbox, whose pods are ready at once and have no process. In
their stead one server answers `/metrics` on the address of each pod, with pages that a model server wrote. Fewer
rollouts are judged more often: what counts is how many looks at a rollout a second has, 1,000 / 15.
"""

import argparse
import asyncio
import itertools
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from operator_cost import RESOURCES, Api, Operator, until
from report import Row, Table, keep, publish

from model_server.domain.features import Metadata
from model_server.domain.model import Identity, LoadedModel, Signature
from model_server.domain.tensors import Tensor
from model_server.inputs.untyped import Untyped
from model_server.monitoring.monitor import Monitor
from model_server.settings import Settings
from model_server.telemetry import Telemetry
from modeldeploy.stand import Child, checkout

ROLLOUTS = 20
MEANT, MEANT_INTERVAL = 1000, 15
METRICS = [
    {"name": "errors", "fail": {}},
    {"name": "latency", "slowerThan": "250ms", "fail": {}},
    {"name": "prediction-shift", "max": 0.2},
    {"name": "accuracy", "fail": {}},
]
MEASURED_SECONDS = 20
PODS = "/api/v1/namespaces/default/pods"


class Classifier:
    """Knows two classes; it is never called."""

    signature = Signature()
    probability_output = ""
    classes = (0, 1)
    runs_inline = True

    def predict(self, inputs: Any, *, probabilities: bool) -> Any:
        raise NotImplementedError


async def pages(count: int) -> list[bytes]:
    """What a model server shows, again and again while it answers and is told what was right."""
    telemetry, chance = Telemetry(), random.Random(1)
    telemetry.loaded(Identity(model="m", version="1", revision="r", format="onnx", sha256="ab", uri="s3://m"))
    outputs = (Tensor("predictions", "INT64", (-1,)),)
    loaded = LoadedModel(
        identity=telemetry.identity, metadata=Metadata(), adapter=Untyped(), model=Classifier(), outputs=outputs
    )
    monitor = Monitor(loaded, Settings(storage_uri="s3://m"), telemetry)
    written = []
    for _ in range(count):
        for number in range(50):
            telemetry.begin()
            telemetry.end(200, chance.expovariate(100))
            answer = chance.randrange(2)
            monitor.predicted(str(number).encode(), {}, {"predictions": np.array([answer])})
            monitor.labelled({"id": str(number), "label": answer if chance.random() < 0.9 else 1 - answer})
        await monitor.tick()
        written.append(telemetry.render())
    monitor.close()
    return written


@asynccontextmanager
async def answering(addresses: Sequence[str], written: Sequence[bytes], counted: list[int]) -> Any:
    """Answer on port 8080 of all addresses; the page is another one after each half of a second."""
    started = time.monotonic()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                page = written[min(int(2 * (time.monotonic() - started)), len(written) - 1)]
                head = f"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {len(page)}\r\n\r\n"
                writer.write(head.encode() + page)
                await writer.drain()
                counted[0] += 1
        writer.close()

    async with await asyncio.start_server(answer, list(addresses), 8080, backlog=1024):
        yield


async def measure(many: int = ROLLOUTS) -> Table:
    """Judge, and return the table."""
    interval = max(2, round(many * MEANT_INTERVAL / MEANT))
    with tempfile.TemporaryDirectory(prefix="modeldeploy-bench-") as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        command = [sys.executable, "-m", "model_sandbox", "up", "--pods", "instant", "--kubeconfig", str(kubeconfig)]
        with Child("sandbox", command, log=Path(folder) / "log", env=os.environ) as sandbox:
            sandbox.wait_for("export KUBECONFIG=", seconds=30)
            api = Api(kubeconfig)
            operator = await Operator(kubeconfig).start()
            try:
                await define(api)
                cpu, looks = await judge(api, operator, many, interval)
            finally:
                await operator.end()
                await api.close()
    cores = cpu / looks * MEANT / MEANT_INTERVAL
    rows = (
        Row(
            what="judging 1,000 rollouts, 4 metrics and 4 pods each, every 15 s",
            value=round(cores, 3),
            unit="cores",
            goal=0.5,
        ),
        Row(what="processor time of one look at a rollout", value=round(1000 * cpu / looks, 2), unit="ms"),
    )
    return Table(name="judging", title="The canary judge's cost", rows=rows)


async def judge(api: Api, operator: Operator, many: int, interval: int) -> tuple[float, float]:
    """Bring so many canaries to half of the traffic; return seconds of processor time and looks at a rollout."""
    names = [f"m{number}" for number in range(many)]
    await asyncio.gather(*(api.call("POST", RESOURCES, body(name, "1", interval)) for name in names))
    await until(lambda: all_are(api, many, lambda status: status.get("phase") == "Healthy"))
    changed = {"spec": {"model": {"storageUri": "s3://models/2"}}}
    await asyncio.gather(*(api.patch(f"{RESOURCES}/{name}", changed) for name in names))
    await until(lambda: all_are(api, many, lambda status: status.get("phase") == "Paused"))
    listed = (await api.call("GET", f"{PODS}?labelSelector=modeldeploy.dev/name"))["items"]
    addresses = [pod["status"]["podIP"] for pod in listed if "podIP" in pod["status"]]
    counted, written = [0], await pages(4 * MEASURED_SECONDS)
    async with answering(addresses, written, counted):
        await asyncio.sleep(3 * interval)
        cpu, reads = operator.cpu(), counted[0]
        await asyncio.sleep(MEASURED_SECONDS)
        cpu, reads = operator.cpu() - cpu, counted[0] - reads
        status = (await api.call("GET", f"{RESOURCES}/m0"))["status"]
    judged = {metric["name"]: metric["message"] for metric in status["analysis"]["metrics"]}
    print("\n".join(itertools.chain([f"{len(addresses)} pods, {reads} reads"], judged.values())), file=sys.stderr)
    return cpu, reads / 4


async def all_are(api: Api, many: int, holds: Any) -> bool:
    items = (await api.call("GET", RESOURCES))["items"]
    await asyncio.sleep(0.5)
    return sum(bool(holds(item.get("status") or {})) for item in items) == many


def body(name: str, model: str, interval: int) -> dict[str, Any]:
    analysis = {"interval": f"{interval}s", "warmup": "0s", "metrics": METRICS}
    strategy = {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}], "analysis": analysis}}
    spec = {"model": {"storageUri": f"s3://models/{model}"}, "replicas": 4, "strategy": strategy}
    metadata = {"name": name}
    return {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelDeployment", "metadata": metadata, "spec": spec}


async def define(api: Api) -> None:
    definition = yaml.safe_load((checkout() / "crds" / "modeldeployments.yaml").read_text())
    await api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rollouts", nargs="?", type=int, default=ROLLOUTS)
    table = asyncio.run(measure(parser.parse_args().rollouts))
    keep(table)
    publish()
    for row in table.rows:
        print(f"{row.what}: {row.value} {row.unit}{'' if row.goal is None else f' (goal {row.goal})'}")
    return int(any(row.goal is not None and row.value > row.goal for row in table.rows))


if __name__ == "__main__":
    sys.exit(main())
