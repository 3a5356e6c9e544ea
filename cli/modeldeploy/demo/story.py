"""The steps of the demo, in order. Each does what a user does, shows it, and checks that it holds."""

import json
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from modeldeploy.demo.hands import Hands, hands
from modeldeploy.demo.load import Load
from modeldeploy.demo.models import own_predictions, some_rows, train
from modeldeploy.demo.narrator import DemoFailed, Narrator
from modeldeploy.kube import MODELDEPLOYMENTS, PODS, SERVICES, Kube, KubeError, Resource
from modeldeploy.stand import INSTALL, Operator, has_helm, installed, start_sandbox, wait_until

NAME = "breast-cancer"
OTHER = "wine"
LEFTOVERS = (
    MODELDEPLOYMENTS,
    PODS,
    SERVICES,
    Resource("apps", "v1", "deployments"),
    Resource("apps", "v1", "replicasets"),
    Resource("discovery.k8s.io", "v1", "endpointslices"),
    Resource("policy", "v1", "poddisruptionbudgets"),
)

_MANIFEST = """\
apiVersion: modeldeploy.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: {name}
spec:
  model:
    storageUri: {uri}
    trusted: true      # joblib runs code when it is loaded; we trained this one ourselves
  replicas: {replicas}
"""


class Story:
    """One run of the demo in `folder`; whatever it started has ended on exit."""

    def __init__(self, folder: Path, narrator: Narrator) -> None:
        self._folder = folder
        self._models = folder / "models"
        self._narrator = narrator
        self._started = ExitStack()

    def __enter__(self) -> "Story":
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def play(self) -> None:
        """All steps. Raises `DemoFailed` at the first thing that does not hold."""
        self._narrator.step("Two models are trained and written as packages")
        train(self._models, self._narrator)
        kubeconfig = self._start_sandbox()
        kube = self._started.enter_context(Kube.connect(kubeconfig))
        user = hands(kubeconfig, kube, self._narrator)
        operator = self._install(kubeconfig)
        self._go_live(kube, user)
        self._predict(kube)
        self._change_under_load(kube, user)
        self._break_it(kube, user)
        self._delete(kube, user)
        operator.check()
        self._narrator.step("Done: every promise above was checked and held")

    def _start_sandbox(self) -> Path:
        self._narrator.step("A sandbox: a single-machine control plane and node, shaped like Kubernetes")
        self._narrator.command(["python", "-m", "model_sandbox", "up"])
        sandbox = self._started.enter_context(start_sandbox(self._folder))
        self._narrator.output(sandbox.tail(12))
        return self._folder / "kubeconfig"

    def _install(self, kubeconfig: Path) -> Operator:
        self._narrator.step("The chart: the resource definition, and the operator as a pod with its own rights")
        if has_helm():
            self._narrator.command(INSTALL)
        else:
            self._narrator.say("There is no Helm engine for this machine: the operator is started as a process.")
        operator = self._started.enter_context(installed(self._folder, kubeconfig, replicas=2))
        self._narrator.output(operator.output)
        return operator

    def _go_live(self, kube: Kube, user: Hands) -> None:
        self._narrator.step("A model goes live")
        manifest = self._manifest(NAME, "1")
        self._narrator.command(["cat", str(manifest)])
        self._narrator.output(manifest.read_text())
        user.apply(manifest)
        user.apply(self._manifest(OTHER, "1"))
        with user.watching(NAME):
            self._wait_ready(kube, NAME, "1")
        self._wait_ready(kube, OTHER, "1")
        user.wide()
        self._narrator.held(f"{NAME} and {OTHER} are Ready")

    def _predict(self, kube: Kube) -> None:
        self._narrator.step("A prediction")
        for name in (NAME, OTHER):
            package = self._models / name / "1"
            rows = some_rows(package, 20)
            answer = self._ask(self._url(kube, name), {"instances": rows[:1]})
            served = answer["predictions"]
            served += httpx.post(
                self._url(kube, name), json={"instances": rows[1:]}, trust_env=False
            ).json()["predictions"]  # fmt: skip
            own = own_predictions(package, rows)
            self._narrator.check(
                served == own,
                f"{len(rows)} served predictions of {name} equal the model's own",
                f"{name} served {served}, the model itself says {own}",
            )

    def _change_under_load(self, kube: Kube, user: Hands) -> None:
        self._narrator.step("A new version under constant load")
        rows = some_rows(self._models / NAME / "1", 200, seed=2)
        expected = {version: own_predictions(self._models / NAME / version, rows) for version in ("1", "2")}
        with Load(self._url(kube, NAME), rows, expected) as load:
            wait_until(lambda: "1" in load.versions(), "the load is on", seconds=20)
            user.apply(self._manifest(NAME, "2"))
            with user.watching(NAME):
                self._wait_ready(kube, NAME, "2")
            wait_until(lambda: "2" in load.versions(), "version 2 answers", seconds=20)
            wait_until(lambda: len(self._pods(kube, NAME)) == 2, "version 1 has left", seconds=120)
        self._judge(load)
        user.wide()

    def _break_it(self, kube: Kube, user: Hands) -> None:
        self._narrator.step("A broken version: the reason is readable, and the old version goes on serving")
        rows = some_rows(self._models / NAME / "1", 200, seed=3)
        expected = {"2": own_predictions(self._models / NAME / "2", rows)}
        with Load(self._url(kube, NAME), rows, expected) as load:
            user.apply(self._manifest(NAME, "3-is-not-there"))
            with user.watching(NAME):
                failures = wait_until(lambda: self._failures(kube, NAME), "status names the failure", seconds=60)
            wide, description = user.wide(), user.describe(NAME)
        reason = failures[0]["reason"]
        for where, text in (("the wide table", wide), ("the description", description)):
            self._narrator.check(reason in text, f"{where} says {reason}", f"{where} does not say {reason}:\n{text}")
        self._judge(load)

    def _delete(self, kube: Kube, user: Hands) -> None:
        self._narrator.step("Deletion leaves nothing behind")
        user.delete(NAME)
        user.delete(OTHER)
        selector = f"modeldeploy.dev/name in ({NAME},{OTHER})"

        def everything() -> list[str]:
            return [
                f"{resource.plural}/{one['metadata']['name']}"
                for resource in LEFTOVERS
                for one in kube.list(resource, labels="" if resource is MODELDEPLOYMENTS else selector)
            ]

        wait_until(lambda: not everything(), "all objects are gone", seconds=90)
        kinds = ", ".join(resource.plural for resource in LEFTOVERS)
        self._narrator.held(f"nothing is left of {kinds}")

    def _judge(self, load: Load) -> None:
        report = load.report
        by_version = ", ".join(f"{count} by version {version}" for version, count in report.answered.items())
        self._narrator.check(
            not report.failed,
            f"{report.sent} requests, {len(report.failed)} failed ({by_version})",
            f"{len(report.failed)} of {report.sent} requests failed, the first: {report.failed[:3]}",
        )
        self._narrator.check(
            not report.differing,
            "every answer equals the prediction of the version that gave it",
            f"{len(report.differing)} answers differ from the model's own: {report.differing[:3]}",
        )

    def _manifest(self, name: str, version: str) -> Path:
        file = self._folder / f"{name}-{version}.yaml"
        uri = (self._models / name / version).as_uri()
        file.write_text(_MANIFEST.format(name=name, uri=uri, replicas=2 if name == NAME else 1))
        return file

    def _ask(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """One prediction with curl where there is curl."""
        words = ["curl", "-s", url, "-H", "content-type: application/json", "-d", json.dumps(body)]
        if not shutil.which("curl"):
            self._narrator.say("curl is not installed here: Python asks instead.")
            answer: dict[str, Any] = httpx.post(url, json=body, trust_env=False).json()
            self._narrator.output(json.dumps(answer))
            return answer
        self._narrator.command(words)
        done = subprocess.run([*words, "--noproxy", "*"], capture_output=True, text=True, timeout=30)
        self._narrator.output(done.stdout + done.stderr)
        try:
            answer = json.loads(done.stdout)
        except ValueError as error:
            raise DemoFailed(f"curl ended with {done.returncode} and no JSON: {done.stdout!r}") from error
        return answer

    def _wait_ready(self, kube: Kube, name: str, version: str) -> None:
        def is_ready() -> bool:
            found = kube.get(MODELDEPLOYMENTS, name)
            status = found.get("status", {})
            ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", []))
            current = status.get("observedGeneration") == found["metadata"]["generation"]
            return ready and current and status.get("model", {}).get("version") == version

        try:
            wait_until(is_ready, f"{name} is Ready with version {version}", seconds=90)
        except TimeoutError as error:
            status = json.dumps(kube.get(MODELDEPLOYMENTS, name).get("status", {}), indent=1)
            raise DemoFailed(f"{error}; its status is {status}") from error

    def _failures(self, kube: Kube, name: str) -> list[dict[str, Any]]:
        failures: list[dict[str, Any]] = kube.get(MODELDEPLOYMENTS, name).get("status", {}).get("podFailures", [])
        return failures

    def _pods(self, kube: Kube, name: str) -> list[dict[str, Any]]:
        return kube.list(PODS, labels=f"modeldeploy.dev/name={name}")

    def _url(self, kube: Kube, name: str) -> str:
        try:
            spec = kube.get(SERVICES, name)["spec"]
        except KubeError as error:
            raise DemoFailed(f"{name} is Ready and has no Service: {error}") from error
        return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}/predict"
