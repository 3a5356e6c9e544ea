"""The cluster of the end-to-end tests: a sandbox with the operator, or the one KUBECONFIG leads to.

On a real cluster (`--cluster`) modeldeploy is installed already, MODELS names the storage URI that
its pods read packages from, and the addresses of Services are reachable from here. With NODE=sandbox that cluster is a
control plane, and this machine joins it as a node and gets modeldeploy installed (root).
"""

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import model_packages
import pytest
import yaml
from pod_policy_cases import VALUES
from traffic_rules import RULES
from waiting import wait_until

from modeldeploy.kube import MODELDEPLOYMENTS, SERVICES, Kube, Resource
from modeldeploy.stand import Stand, joined, stand

NAMESPACES = Resource("", "v1", "namespaces", namespaced=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where tests run. `models` holds the packages, pods read them under `models_uri`."""

    kubeconfig: Path
    models: Path
    models_uri: str
    running: Stand | None = None

    def check(self) -> None:
        """Fail at once, and with the reason, when the sandbox has ended by itself."""
        if self.running is not None and not self.running.sandbox.is_alive():
            pytest.fail(f"the sandbox ended by itself:\n{self.running.sandbox.tail()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """One test's own namespace."""

    cluster: Cluster
    namespace: str
    kubeconfig: Path
    kube: Kube

    def kubectl(self, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), *words]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120)

    def apply(self, name: str, package: str, **spec: object) -> None:
        """Apply a ModelDeployment of `package`, with kubectl."""
        storage = {"storageUri": f"{self.cluster.models_uri}/{package}", "trusted": True}
        overrides = spec.pop("model", {})
        assert isinstance(overrides, dict)
        manifest = {
            "apiVersion": "modeldeploy.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": name},
            "spec": {"model": {**storage, **overrides}, **spec},
        }
        done = self.kubectl("apply", "-f", "-", given=yaml.safe_dump(manifest))
        assert done.returncode == 0, done.stderr

    def wait_live(self, name: str, version: str, *, seconds: float = 60) -> dict[str, object]:
        """Wait until `name` is Ready with that version of its model."""

        def live() -> dict[str, object] | None:
            self.cluster.check()
            found = self.kube.get(MODELDEPLOYMENTS, name)
            status = found.get("status", {})
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
            current = status.get("observedGeneration") == found["metadata"]["generation"]
            serves = status.get("model", {}).get("version") == version
            return found if ready and current and serves else None

        return wait_until(live, f"{name} is Ready with version {version}", seconds=seconds) or {}

    def node_address(self) -> str:
        """Return where pods reach servers of this machine, which has the first node."""
        [node, *_] = json.loads(self.kubectl("get", "nodes", "-o", "json").stdout)["items"]
        return str(node["status"]["addresses"][0]["address"])

    def url(self, name: str) -> str:
        """Address of the front Service."""
        spec = self.kube.get(SERVICES, name)["spec"]
        return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packages")
    model_packages.write(out)
    return out


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    folder = tmp_path_factory.mktemp("cluster")
    on_cluster, node = request.config.getoption("--cluster"), os.environ.get("NODE", "")
    if node not in ("", "sandbox"):
        pytest.fail(f"NODE is {node!r}; known: sandbox")
    if on_cluster and not node:
        uri = os.environ.get("MODELS")
        if not uri:
            pytest.fail("--cluster needs MODELS, the storage URI that the cluster's pods read packages from")
        models = Path(uri.removeprefix("file://")) if uri.startswith("file://") else folder / "models"
        if not models.exists():
            model_packages.write(models)
        kubeconfig = Path(os.environ["KUBECONFIG"])
        yield Cluster(kubeconfig=kubeconfig, models=models, models_uri=uri)
        return
    models: Path = request.getfixturevalue("packages")
    # Here the news that a pod leaves travels in milliseconds.
    settings = {"MODEL_OPERATOR_PRE_STOP_SECONDS": "1", "MODEL_OPERATOR_GATEWAYS": RULES}
    # A node that starts what a test killed again at once, as often as it is killed.
    backoff = ("--restart-backoff", "0.1")
    kubeconfig = Path(os.environ["KUBECONFIG"]) if on_cluster else folder
    exceptions = VALUES["podPolicyExceptions"]
    exceptions = {**exceptions, "images": [*exceptions["images"], "python:*"]}
    values = {**VALUES, "podPolicyExceptions": exceptions, "activator": {"enabled": True}}
    where = joined(folder, kubeconfig, *backoff, values=values, **settings) if on_cluster else stand(folder, **settings)
    with where as running:
        yield Cluster(kubeconfig=running.kubeconfig, models=models, models_uri=models.as_uri(), running=running)
        running.operator.check()


@pytest.fixture(scope="session")
def names() -> Iterator[int]:
    return itertools.count(1)


@pytest.fixture(scope="module")
def space(cluster: Cluster, names: Iterator[int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    """A namespace that is gone after the module's tests."""
    cluster.check()
    namespace = f"e2e-{os.getpid()}-{next(names)}"
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for context in config["contexts"]:
        context["context"]["namespace"] = namespace
    kubeconfig = tmp_path_factory.mktemp(namespace) / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    with Kube.connect(kubeconfig) as kube:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        kube.apply(NAMESPACES, body)
        yield Space(cluster=cluster, namespace=namespace, kubeconfig=kubeconfig, kube=kube)
        kube.delete(NAMESPACES, namespace)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and cluster is not None and cluster.running is not None:
        for name in ("operator", "sandbox"):
            report.sections.append((f"end of the log of the {name}", getattr(cluster.running, name).tail(80)))
    return report
