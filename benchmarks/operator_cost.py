"""What the operator costs: requests by kind of change, time for many resources, restart, memory, failover.

    python benchmarks/operator_cost.py [RESOURCES]        (make bench-operator)

Runs against the sandbox's API server without controllers and nodes, so that every write is the operator's,
or against the API server of KUBECONFIG when `--cluster` is given: one without ModelDeployments and without
controllers, since what is made there stays. Next to it, in the same run, a bare asyncio client applies the same
objects: the floor that no operator can go below.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import ssl
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import dead_canary
from report import Row, Table, keep, publish

from modeldeploy.kube.access import read_access
from modeldeploy.stand import Child, free_port, install_crd

ROOT = "/apis/modeldeploy.dev/v1alpha1"
RESOURCES = f"{ROOT}/namespaces/default/modeldeployments"
KINDS = {
    "Deployment": "/apis/apps/v1/namespaces/default/deployments",
    "Service": "/api/v1/namespaces/default/services",
}
CHILDREN = 2  # a Deployment and the front Service
AT_ONCE = 32
LEASE_SECONDS = 6
#: Seconds of processor time in half a second below which the operator is idle.
IDLE_CPU = 0.1


class Api:
    """A bare client: JSON over one keep-alive session."""

    def __init__(self, kubeconfig: Path) -> None:
        access = read_access(kubeconfig).configuration
        self.url = access.host
        credentials = access.get_api_key_with_prefix("BearerToken")
        self._session = aiohttp.ClientSession(
            headers={"Authorization": credentials} if credentials else {},
            connector=aiohttp.TCPConnector(ssl=tls_of(access)),
        )
        self._limit = asyncio.Semaphore(AT_ONCE)

    async def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        async with self._limit:
            headers = {"Content-Type": kind}
            async with self._session.request(method, self.url + path, json=body, headers=headers) as response:
                answer = await response.json(content_type=None)
                if response.status >= 300:
                    raise RuntimeError(f"{method} {path}: {response.status} {answer}")
                return answer

    async def create(self, name: str, model: str = "1") -> Any:
        spec = {"model": {"storageUri": f"s3://models/{name}/{model}"}}
        body = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": name}}
        return await self.call("POST", RESOURCES, {**body, "spec": spec})

    async def patch(self, path: str, body: Any) -> Any:
        return await self.call("PATCH", path, body, "application/merge-patch+json")

    async def count(self, kind: str) -> int:
        """Count the objects of a kind without reading them."""
        page = await self.call("GET", KINDS[kind] + "?limit=1")
        return len(page["items"]) + page["metadata"].get("remainingItemCount", 0)

    async def leader(self) -> str:
        """Return who holds the operator's Lease."""
        leases = await self.call("GET", "/apis/coordination.k8s.io/v1/namespaces/default/leases")
        return next((lease["spec"]["holderIdentity"] for lease in leases["items"]), "")

    async def follow(self, kind: str, seen: dict[str, float]) -> None:
        """Note when the first object of each ModelDeployment appears, until cancelled."""
        version = (await self.call("GET", KINDS[kind] + "?limit=1"))["metadata"]["resourceVersion"]
        path = f"{self.url}{KINDS[kind]}?watch=true&resourceVersion={version}"
        async with self._session.get(path, timeout=aiohttp.ClientTimeout(total=None)) as response:
            async for line in response.content:
                labels = json.loads(line)["object"]["metadata"]["labels"]
                seen.setdefault(labels["modeldeploy.dev/name"], time.perf_counter())

    async def close(self) -> None:
        await self._session.close()


def tls_of(access: Any) -> ssl.SSLContext | bool:
    """Return the TLS settings of a kubeconfig: its authority, and its client certificate."""
    if not access.host.startswith("https://"):
        return True
    tls = ssl.create_default_context(cafile=access.ssl_ca_cert)
    if not access.verify_ssl:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    if access.cert_file:
        tls.load_cert_chain(access.cert_file, access.key_file)
    return tls


class Operator:
    """The operator as a process, with its metrics, memory and processor time.

    `python` is the interpreter that runs it. Libraries of the tests change what the Kubernetes client imports (it
    validates with kubernetes-validate where that is installed), so the image's own set of libraries is measured.
    """

    python = sys.executable

    def __init__(self, kubeconfig: Path, identity: str = "bench-0") -> None:
        self._kubeconfig, self.identity = kubeconfig, identity

    async def start(self) -> "Operator":
        self.metrics, health = free_port(), free_port()
        settings = {
            "HOST": "127.0.0.1",
            "METRICS_PORT": self.metrics,
            "HEALTH_PORT": health,
            "LOG_LEVEL": "error",
            "LEASE_SECONDS": LEASE_SECONDS,
            "IDENTITY": self.identity,
        }
        self.process = await asyncio.create_subprocess_exec(
            self.python,
            "-m",
            "model_operator",
            env={
                **os.environ,
                "KUBECONFIG": str(self._kubeconfig),
                **{f"MODEL_OPERATOR_{name}": str(value) for name, value in settings.items()},
            },
        )
        return self

    async def page(self, query: str = "") -> str:
        """Return its metrics; nothing while it does not answer."""
        url = f"http://127.0.0.1:{self.metrics}/metrics{query}"
        try:
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                return await response.text()
        except aiohttp.ClientError:
            return ""

    async def requests(self) -> Counter[str]:
        """Count requests by verb, without those for the lease, events and the version; a whole page costs much."""
        counted: Counter[str] = Counter()
        name = "modeldeploy_operator_api_requests_total"
        pattern = name + r'\{code="\d+",kind="(\w+)",verb="([\w-]+)"\} (\S+)'
        for kind, verb, value in re.findall(pattern, await self.page(f"?name[]={name}")):
            if kind not in ("Lease", "Event", "Version"):
                counted[verb] += int(float(value))
        return counted

    async def has_settled(self, resources: int) -> bool:
        """Whether a fresh process has passed over so many resources; asked in a way that costs it next to nothing."""
        name = "modeldeploy_operator_reconciles_total"
        passes = re.findall(name + r'\{result="ok"\} (\S+)', await self.page(f"?name[]={name}"))
        return bool(passes) and float(passes[0]) >= resources

    def rss(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def end(self, number: int = signal.SIGTERM) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()


async def until(check: Any, seconds: float = 300, every: float = 0.05) -> float:
    """Wait until an awaited answer is true; return the seconds it took."""
    started = time.perf_counter()
    while not await check():
        if time.perf_counter() - started > seconds:
            raise TimeoutError("the operator did not get there")
        await asyncio.sleep(every)
    return time.perf_counter() - started


async def leads(api: Api, operator: Operator) -> bool:
    return await api.leader() == operator.identity


async def quiet(operator: Operator) -> Counter[str]:
    """Wait until the operator makes no more requests and hardly uses the processor, and return their count."""
    before: Counter[str] = Counter({"none": -1})
    cpu = -1.0
    while before != (now := await operator.requests()) or operator.cpu() - cpu > IDLE_CPU:
        before, cpu = now, operator.cpu()
        await asyncio.sleep(0.5)
    return before


def writes(counted: Counter[str]) -> int:
    return sum(n for verb, n in counted.items() if verb not in ("list", "watch"))


async def floor(api: Api, many: int) -> float:
    """Apply a Deployment, two Services and a status for each resource, without an operator.

    Two Services, since the first release had two for each model: this floor is the one that its figures stand beside.
    """
    templates = [await api.call("GET", f"{KINDS['Deployment']}?limit=1"), await api.call("GET", KINDS["Service"])]
    deployment = next(iter(templates[0]["items"]))
    status = (await api.call("GET", f"{RESOURCES}/warm"))["status"]
    service = next(item for item in templates[1]["items"] if item["metadata"]["name"].startswith("warm"))

    async def one(number: int) -> None:
        name = f"floor-{number}"
        await api.create(name)
        for kind, body, suffix in (
            ("Service", service, "-a"),
            ("Deployment", deployment, "-a"),
            ("Service", service, ""),
        ):
            await apply(api, kind, body, name + suffix)
        await api.patch(f"{RESOURCES}/{name}/status", {"status": status})

    started = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(many)))
    took = time.perf_counter() - started
    await asyncio.gather(*(api.call("DELETE", f"{RESOURCES}/floor-{number}") for number in range(many)))
    return took


async def apply(api: Api, kind: str, like: Any, name: str) -> None:
    spec = {k: v for k, v in like["spec"].items() if k not in ("clusterIP", "clusterIPs")}
    metadata = {"name": name, "labels": {k: v for k, v in like["metadata"]["labels"].items() if "managed" not in k}}
    version = "apps/v1" if kind == "Deployment" else "v1"
    body = {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}
    path = f"{KINDS[kind]}/{name}?fieldManager=floor&force=true"
    await api.call("PATCH", path, body, "application/apply-patch+yaml")


async def measure(kubeconfig: Path, many: int) -> Table:
    api = Api(kubeconfig)
    rows: list[Row] = []
    operator = await Operator(kubeconfig).start()
    try:
        await until(lambda: leads(api, operator))
        await cost_of_changes(api, operator, rows)
        await operator.end()
        bare = await floor(api, many)
        operator = await Operator(kubeconfig).start()
        await until(lambda: leads(api, operator))
        await many_at_once(api, operator, rows, many, bare)
        await single_changes(api, rows)
        rows.append(
            Row(
                what=f"RSS with {many} ModelDeployments",
                value=round(operator.rss()),
                unit="MiB",
                goal=goal(many, 140, 300),
            )
        )
        await quiet(operator)
        await operator.end(signal.SIGKILL)
        operator = await restarted(kubeconfig, rows, many)
        operator = await failover(api, kubeconfig, operator, rows)
    finally:
        await operator.end()
        await api.close()
    return Table(name="operator_cost", title=f"The operator, with {many} ModelDeployments", rows=tuple(rows))


async def cost_of_changes(api: Api, operator: Operator, rows: list[Row]) -> None:
    before = await quiet(operator)
    await api.create("warm")
    after = await quiet(operator)
    rows.append(Row(what="requests per create", value=writes(after - before), unit="", goal=CHILDREN + 1))
    rows.append(Row(what="of them GETs", value=(after - before)["get"], unit="", goal=0))
    path = f"{RESOURCES}/warm"
    await api.patch(path, {"spec": {"replicas": 3}})
    scaled = await quiet(operator)
    # The Deployment and a PodDisruptionBudget, which several replicas get.
    rows.append(Row(what="requests per change of replicas", value=writes(scaled - after), unit="", goal=2 + 1))
    deployment = (await api.call("GET", KINDS["Deployment"]))["items"][0]
    await start_pods(api, deployment)
    started = await quiet(operator)
    await make_available(api, deployment)
    ready = await quiet(operator)
    rows.append(Row(what="requests per readiness flip", value=writes(ready - started), unit="", goal=1))
    await api.create("gone")
    created = await quiet(operator)
    await api.call("DELETE", f"{RESOURCES}/gone")
    deleted = await quiet(operator)
    rows.append(Row(what="requests per deletion", value=writes(deleted - created), unit="", goal=0))


async def start_pods(api: Api, deployment: Any) -> None:
    """Play the node: three ready pods."""
    template, name = deployment["spec"]["template"], deployment["metadata"]["name"]
    for number in range(3):
        metadata = {"name": f"{name}-{number}", "labels": template["metadata"]["labels"]}
        container = {"name": "server", "image": "x"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
        await api.call("POST", "/api/v1/namespaces/default/pods", pod)
        conditions = [{"type": "Ready", "status": "True"}]
        status = {"status": {"phase": "Running", "conditions": conditions}}
        await api.patch(f"/api/v1/namespaces/default/pods/{name}-{number}/status", status)


async def make_available(api: Api, deployment: Any) -> None:
    """Play the Deployment's controller: what it says of them."""
    counts = {"observedGeneration": deployment["metadata"]["generation"], "replicas": 3, "readyReplicas": 3}
    path = f"{KINDS['Deployment']}/{deployment['metadata']['name']}/status"
    await api.patch(path, {"status": {**counts, "availableReplicas": 3, "updatedReplicas": 3}})


async def many_at_once(api: Api, operator: Operator, rows: list[Row], many: int, bare: float) -> None:
    have, cpu = await api.count("Deployment"), operator.cpu()
    started = time.perf_counter()
    await asyncio.gather(*(api.create(f"many-{number}") for number in range(many)))

    async def done() -> bool:
        return await api.count("Deployment") >= have + many

    await until(done, every=0.1)
    took = time.perf_counter() - started
    await quiet(operator)
    rows.append(Row(what=f"{many} applied at once, by a bare client", value=round(bare, 1), unit="s"))
    rows.append(Row(what=f"{many} applied at once, by the operator", value=round(took, 1), unit="s"))
    rows.append(Row(what="operator against bare client", value=round(took / bare, 2), unit="x", goal=1.2))
    rows.append(Row(what="operator CPU per create", value=round(1000 * (operator.cpu() - cpu) / many, 2), unit="ms"))


async def single_changes(api: Api, rows: list[Row]) -> None:
    seen: dict[str, float] = {}
    following = asyncio.create_task(api.follow("Deployment", seen))
    times = []
    for number in range(20):
        name = f"single-{number}"
        started = time.perf_counter()
        await api.create(name)
        while name not in seen:
            await asyncio.sleep(0.001)
        times.append(1000 * (seen[name] - started))
        await asyncio.sleep(0.2)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    rows.append(
        Row(what="one create on an idle system, p50", value=round(statistics.median(times)), unit="ms", goal=30)
    )
    rows.append(Row(what="one create on an idle system, max of 20", value=round(max(times)), unit="ms"))


async def restarted(kubeconfig: Path, rows: list[Row], many: int) -> Operator:
    # As a container that restarts in its pod: it comes back under its own name, and the lease is still its own.
    started = time.perf_counter()
    operator = await Operator(kubeconfig).start()
    await until(lambda: operator.has_settled(many), every=0.1)
    rows.append(
        Row(
            what=f"restart with {many}, settled",
            value=round(time.perf_counter() - started, 1),
            unit="s",
            goal=goal(many, 3, 8),
        )
    )
    counted = await quiet(operator)
    # The Secret of the tokens is read at the start.
    rows.append(Row(what="writes after a restart", value=writes(counted) - counted["get"], unit="", goal=0))
    return operator


async def failover(api: Api, kubeconfig: Path, leader: Operator, rows: list[Row]) -> Operator:
    for number, name, goal in ((signal.SIGKILL, "kill -9", LEASE_SECONDS + 2), (signal.SIGTERM, "SIGTERM", 1)):
        standby = await Operator(kubeconfig, f"standby-{number}").start()
        await asyncio.sleep(4)
        await quiet(standby)  # its caches are warm
        leader.process.send_signal(number)
        took = await until(lambda: leads(api, standby), every=0.02)  # noqa: B023 - awaited here
        await leader.process.wait()
        rows.append(Row(what=f"failover after {name}", value=round(took, 1), unit="s", goal=goal))
        leader = standby
    return leader


def goal(many: int, thousand: float, five_thousand: float) -> float:
    """Return the goal for up to 1,000 resources, or the one for 5,000."""
    return thousand if many <= 1000 else five_thousand


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("resources", nargs="?", type=int, default=1000)
    parser.add_argument("--cluster", action="store_true", help="use the API server of KUBECONFIG, an empty one")
    parser.add_argument("--python", default=sys.executable, help="interpreter that runs the operator")
    arguments = parser.parse_args()
    Operator.python = arguments.python
    missed = []
    for tell in (on_cluster if arguments.cluster else on_sandbox, deaths):
        table = await tell(arguments.resources)
        keep(table)
        for row in table.rows:
            print(f"{row.what}: {row.value} {row.unit}{'' if row.goal is None else f' (goal {row.goal})'}", flush=True)
        missed += [row.what for row in table.rows if row.goal is not None and row.value > row.goal]
    publish()
    for what in missed:
        print(f"goal missed: {what}", file=sys.stderr)
    return 1 if missed else 0


async def on_cluster(many: int) -> Table:
    kubeconfig = Path(os.environ["KUBECONFIG"])
    await define(kubeconfig)
    return await measure(kubeconfig, many)


async def on_sandbox(many: int) -> Table:
    with tempfile.TemporaryDirectory(prefix="modeldeploy-bench-") as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        command = [sys.executable, "-m", "model_sandbox", "apiserver", "--kubeconfig", str(kubeconfig)]
        with Child("apiserver", command, log=Path(folder) / "log", env=os.environ) as server:
            server.wait_for("export KUBECONFIG=", seconds=30)
            await define(kubeconfig)
            return await measure(kubeconfig, many)


async def deaths(_many: int) -> Table:
    return await asyncio.to_thread(dead_canary.measure)


async def define(kubeconfig: Path) -> None:
    """Install the resource definition, and what controllers make elsewhere: the namespace and its ServiceAccount."""
    await asyncio.to_thread(install_crd, kubeconfig)
    api = Api(kubeconfig)
    for path, kind, name in (
        ("/api/v1/namespaces", "Namespace", "default"),
        ("/api/v1/namespaces/default/serviceaccounts", "ServiceAccount", "default"),
    ):
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
        query = "?fieldManager=benchmark"
        await api.call("PATCH", f"{path}/{name}{query}", body, "application/apply-patch+yaml")
    await api.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
