"""Messages of each broker: how many a second, beside HTTP, and what is left of them when server and broker are killed.

    python benchmarks/streams.py [--messages 100000] [--brokers nats redis rabbitmq kafka]

The model is of scikit-learn, with one worker; a message has one row of 13 numbers, and one in a hundred is no JSON.
For the rate the messages are there before the server begins. For the counts they are sent meanwhile; the server is
killed (-9) after a third of the messages, the broker when all are sent. Kafka is Kafka itself where a distribution is
in PATH, else librdkafka's mock cluster, which has everything in memory and is not killed. HTTP is asked by wrk with 64
connections. The load of the machine stands below the table: rates depend on it, counts do not.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import joblib
import yaml
from report import Row, Table, keep, publish
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from broker_base import TestBroker
from brokers import BROKERS
from free_ports import free_port
from stream_chaos import DEAD, INPUT, OUTPUT, Counts, made_up, survive

WARM, RATE_MESSAGES = 500, 20_000
NAMES = {
    "nats": "NATS JetStream",
    "redis": "Redis Streams",
    "rabbitmq": "RabbitMQ",
    "kafka": "Kafka" if BROKERS["kafka"].keeps_messages else "Kafka (mock cluster)",
}
LUA = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
local file = io.open(os.getenv("BODY")); wrk.body = file:read("*a"); file:close()
"""


def train(folder: Path) -> list[list[float]]:
    """Write the package; its rows."""
    folder.mkdir()
    data = load_wine()
    joblib.dump(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(data.data, data.target),
        folder / "model.joblib",
    )
    features = [
        {"name": name, "dtype": "float64", "example": float(value)}
        for name, value in zip(data.feature_names, data.data[0], strict=True)
    ]
    (folder / "model.yaml").write_text(yaml.safe_dump({"version": "1", "input_features": features}))
    rows: list[list[float]] = data.data.tolist()
    return rows


class Server:
    """One model server; `kill` and `start` again."""

    def __init__(self, package: Path, folder: Path, broker: TestBroker | None) -> None:
        self.port, self.log = free_port(), folder / "server.log"
        given = {"storage_uri": f"file://{package}", "trusted": "true", "name": "wine", "host": "127.0.0.1"}
        given |= {"port": str(self.port), "termination_log": str(folder / "termination"), "log_level": "error"}
        if broker is not None:
            given |= {"stream_url": broker.url, "stream_input": INPUT, "stream_output": OUTPUT}
            given |= {"stream_dead_letter": DEAD}
        self.environ = {**os.environ, **{f"MODEL_SERVER_{name.upper()}": value for name, value in given.items()}}

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "model_server"], env=self.environ, stdout=log, stderr=log
            )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def metric(self, start: str) -> float:
        """The sum of the metrics that begin so; 0 while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return 0.0
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))

    async def until(self, condition: Callable[[], bool], seconds: float = 600) -> None:
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(condition):
            if time.monotonic() > deadline:
                raise TimeoutError(self.log.read_text()[-2000:])
            await asyncio.sleep(0.05)

    def handled(self) -> float:
        return self.metric("modeldeploy_stream_messages_total")


async def rate(kind: type[TestBroker], package: Path, rows: list[list[float]]) -> float:
    """Messages that are answered in a second, from the first to the last of a full queue."""
    with tempfile.TemporaryDirectory(prefix="modeldeploy-bench-") as name:
        broker = kind(Path(name))
        await broker.start()
        server = Server(package, Path(name), broker)
        try:
            await broker.create(INPUT, OUTPUT, DEAD)
            await broker.send(INPUT, made_up(rows, RATE_MESSAGES))
            server.start()
            await server.until(lambda: server.handled() >= WARM)
            first, began = server.handled(), time.perf_counter()
            await server.until(lambda: server.handled() >= RATE_MESSAGES)
            return (RATE_MESSAGES - first) / (time.perf_counter() - began)
        finally:
            server.kill()
            await broker.close()


async def chaos(kind: type[TestBroker], package: Path, rows: list[list[float]], messages: int) -> Counts:
    """What became of the messages although server and broker were killed."""
    with tempfile.TemporaryDirectory(prefix="modeldeploy-bench-") as name:
        broker = kind(Path(name))
        await broker.start()
        server = Server(package, Path(name), broker)
        try:
            await broker.create(INPUT, OUTPUT, DEAD)
            return await survive(broker, server, made_up(rows, messages))
        finally:
            server.kill()
            await broker.close()


async def http_rate(package: Path, rows: list[list[float]]) -> float | None:
    """Requests that are answered in a second; None without wrk."""
    if shutil.which("wrk") is None:
        return None
    with tempfile.TemporaryDirectory(prefix="modeldeploy-bench-") as name:
        folder = Path(name)
        (folder / "body.json").write_text(json.dumps({"instances": rows[:1]}))
        (folder / "post.lua").write_text(LUA)
        server = Server(package, folder, None)
        server.start()
        try:
            await server.until(lambda: server.metric("modeldeploy_model_info") == 1)
            words = ["wrk", "-t1", "-c64", "-d10s", "-s", str(folder / "post.lua")]
            done = await asyncio.to_thread(
                subprocess.run,
                [*words, f"http://127.0.0.1:{server.port}/predict"],
                env={**os.environ, "BODY": str(folder / "body.json")},
                capture_output=True,
                text=True,
                check=True,
            )
        finally:
            server.kill()
    return float(done.stdout.split("Requests/sec:")[1].split()[0])


async def measure(names: list[str], messages: int) -> Table:
    lines = [
        "| | messages/s | sent | answered | dead letters | copies | marked as such | lost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    figures: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="modeldeploy-bench-") as name:
        package = Path(name) / "wine"
        rows = train(package)
        requests = await http_rate(package, rows)
        if requests is not None:
            figures.append(Row(what="HTTP, 64 connections", value=round(requests), unit="requests/s"))
            lines.append(f"| HTTP, 64 connections | {requests:,.0f} | | | | | | |")
        for one in names:
            kind = BROKERS[one]
            if why := kind.missing():
                print(f"{one}: skipped, {why}", flush=True)
                continue
            speed = await rate(kind, package, rows)
            found = await chaos(kind, package, rows, messages)
            print(one, round(speed), found, flush=True)
            lines.append(
                f"| {NAMES[one]} | {speed:,.0f} | {found.sent:,} | {found.answered:,} | {found.dead:,} |"
                f" {found.copies:,} | {found.marked:,} | {found.lost:,} |"
            )
            figures.append(Row(what=f"{NAMES[one]}", value=round(speed), unit="messages/s"))
            figures.append(Row(what=f"{NAMES[one]}: lost of {messages}", value=found.lost, unit="messages", goal=0))
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    lines += ["", f"Load average of the machine at the end, with all that ran on it: {loads}."]
    title = f"Messages of brokers: the rate, and {messages:,} messages with server and broker killed meanwhile"
    return Table(name="streams", title=title, rows=tuple(figures), shown="\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--brokers", nargs="+", choices=sorted(BROKERS), default=["nats", "redis", "rabbitmq", "kafka"])
    given = parser.parse_args()
    keep(asyncio.run(measure(given.brokers, given.messages)))
    print(publish())
