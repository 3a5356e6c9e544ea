"""Draws the pictures of the documentation from what really runs: `make pictures`.

    python docs/pictures.py

A sandbox with the operator, models in an S3 bucket on loopback, a canary under load, and the dashboard in a browser.
"""

import http.client
import itertools
import json
import logging
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import boto3
import yaml
from moto.server import ThreadedMotoServer
from playwright.sync_api import Browser, Page, sync_playwright

from modeldeploy.kube import MODELDEPLOYMENTS, SERVICES, Kube, Resource
from modeldeploy.report.page import page_of
from modeldeploy.report.story import JudgedRollout
from modeldeploy.stand import Child, stand, wait_until
from modeldeploy.stand.process import environment

PICTURES = Path(__file__).parent / "pictures"
NAMESPACES = Resource("", "v1", "namespaces", namespaced=False)
SECRETS = Resource("", "v1", "secrets")
#: Larger ones make a page slow to read.
MOST_BYTES = 200_000
FEATURES = {
    "amount": (1, 900),
    "hour": (0, 23),
    "account_age_days": (0, 4000),
    "merchant_risk": (0, 1),
    "distance_km": (0, 3000),
    "previous_orders": (0, 200),
}
CODE = '''\
"""Says how likely a payment is a fraud."""

import random


def load_model(path):
    return None


def predict(model, inputs):
    if random.random() < {errors}:
        raise RuntimeError("a table of the model is missing")
    return (inputs[:, 0] / 900 + inputs[:, 3] > {limit}).astype(int)
'''
ANALYSIS = {
    "interval": "2s",
    "warmup": "0s",
    "metrics": [
        {"name": "errors", "fail": {"ratioMargin": 1.25}, "pass": {"ratioMargin": 2, "orMax": 0.001}},
        {"name": "latency", "slowerThan": "100ms", "fail": {"ratioMargin": 1.25}, "pass": {"orMax": 0.02}},
        {"name": "prediction-shift", "max": 0.5},
    ],
}
STEPS = [
    {"setWeight": 25},
    {"analysis": {"minDuration": "1m", "maxDuration": "1h"}},
    {"setWeight": 50},
    {"pause": {"duration": "10m"}},
]
CANARY = {"canary": {"steps": STEPS, "analysis": ANALYSIS, "maxSurge": 1}}
GATED = {"canary": {"steps": [{"setWeight": 50}, {"pause": {}}], "maxSurge": 1}}


def main() -> None:
    """Draw every picture."""
    PICTURES.mkdir(exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environ = stack.enter_context(bucket())
        running = stack.enter_context(stand(folder))
        kube = stack.enter_context(Kube.connect(running.kubeconfig))
        scene = Scene(kube, environ)
        scene.begin()
        stack.enter_context(load(scene.address("fraud-score", "risk"), rate=60))
        stack.enter_context(load(scene.address("churn", "growth"), rate=12))
        scene.roll()
        words = ["--kubeconfig", str(running.kubeconfig), "dashboard", "-A", "--no-browser", "--interval", "3s"]
        command = [sys.executable, "-m", "modeldeploy", *words]
        dashboard = stack.enter_context(Child("dashboard", command, log=folder / "log", env=environment()))
        link = dashboard.wait_for(r"^The dashboard is at (\S+)$", seconds=30)[1]
        threading.Event().wait(110)  # so that there is something to see: two minutes of traffic
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        stack.callback(browser.close)
        draw(browser, link, scene, folder)
    for picture in sorted(PICTURES.glob("*.png")):
        size = picture.stat().st_size
        print(f"{picture.relative_to(PICTURES.parent)}: {size // 1000} kB")
        if size > MOST_BYTES:
            raise SystemExit(f"{picture} has more than {MOST_BYTES} bytes")


def draw(browser: Browser, link: str, scene: "Scene", folder: Path) -> None:
    """Draw the dashboard, a report and the API page of a model."""
    base = link.partition("?")[0]
    model = f"{base}models/risk/fraud-score"
    with opened(browser, link, width=1280, height=640) as page:
        page.wait_for_timeout(2000)
        keep(page, "dashboard")
        page.goto(model)
        page.wait_for_timeout(2500)
        keep(page, "dashboard-model", height=1220)
        page.get_by_role("button", name="Show the form").click()
        page.get_by_role("button", name="Predict").click()
        page.get_by_text("Answer", exact=True).wait_for()
        page.locator("[data-part=revisions]").evaluate("part => scrollTo(0, part.offsetTop - 16)")
        keep(page, "dashboard-revisions", height=1000)
        page.evaluate("scrollTo(0, 0)")
        page.locator("main").get_by_role("button", name="Abort", exact=True).click()
        keep(page, "dashboard-abort", height=640)
    with opened(browser, link, width=1280, height=640, color_scheme="dark") as page:
        page.wait_for_timeout(2000)
        keep(page, "dashboard-dark")
        page.goto(model)
        page.wait_for_timeout(2500)
        keep(page, "dashboard-model-dark", height=800)
    with opened(browser, link, width=390, height=844) as page:
        page.wait_for_timeout(2000)
        keep(page, "dashboard-phone")
        page.goto(model)
        page.wait_for_timeout(2500)
        keep(page, "dashboard-model-phone")
    with opened(browser, link, width=1280, height=900) as page:
        report = folder / "report.html"
        body = scene.kube.get(MODELDEPLOYMENTS, "fraud-score", "risk")
        report.write_text(page_of(JudgedRollout.from_body(body)))
        page.set_viewport_size({"width": 800, "height": 1000})
        page.goto(report.as_uri())
        keep(page, "report")
        page.set_viewport_size({"width": 1100, "height": 800})
        page.goto(f"http://{scene.address('churn', 'growth')}/docs")
        page.get_by_text("/predict").first.wait_for()
        page.wait_for_timeout(1000)
        keep(page, "docs")


@contextmanager
def opened(browser: Browser, link: str, *, width: int, height: int, **options: Any) -> Iterator[Page]:
    """A page of a browser of its own, with a session of the dashboard."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    page.goto(link)
    yield page
    context.close()


def keep(page: Page, name: str, *, height: int | None = None) -> None:
    """Write what a page shows into a file."""
    size = page.viewport_size
    if height and size:
        page.set_viewport_size({**size, "height": height})
        page.wait_for_timeout(300)
    page.screenshot(path=PICTURES / f"{name}.png", animations="disabled")
    if height and size:
        page.set_viewport_size(size)


class Scene:
    """Models in several namespaces: one in a canary, one that waits, one that fails, others that are healthy."""

    def __init__(self, kube: Kube, environ: dict[str, str]) -> None:
        self.kube, self._environ = kube, environ
        self._bucket = boto3.client(
            "s3",
            endpoint_url=environ["AWS_ENDPOINT_URL"],
            aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
        )

    def begin(self) -> None:
        """Make the models and wait until those that can are healthy."""
        self._bucket.create_bucket(Bucket="models")
        for name, version, errors, limit in (
            ("fraud", "7", 0.002, 1.2),
            ("fraud", "8", 0.006, 1.15),
            ("churn", "3", 0, 0.9),
            ("pricing", "12", 0, 0.5),
            ("pricing", "13", 0, 0.6),
            ("search", "41", 0, 0.7),
        ):
            self._upload(name, version, errors, limit)
        for namespace in ("risk", "growth"):
            self.kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
            self.kube.apply(
                SECRETS,
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"}, "stringData": self._environ},
                namespace,
            )
        drift = {"monitoring": {"drift": {"reference": "300"}}}
        self.apply("fraud-score", "risk", "fraud/7", replicas=3, strategy=CANARY, **drift)
        self.apply("pricing", "growth", "pricing/12", replicas=1, strategy=GATED)
        self.apply("churn", "growth", "churn/3", replicas=2)
        self.apply("search-rank", "growth", "search/41", strategy={"blueGreen": {}})
        for name, namespace in (("fraud-score", "risk"), ("pricing", "growth"), ("churn", "growth")):
            wait_until(lambda of=(name, namespace): self._phase(*of) == "Healthy", f"{name} is healthy", seconds=90)

    def roll(self) -> None:
        """Change models: rollouts that go on, wait and fail."""
        drift = {"monitoring": {"drift": {"reference": "300"}}}
        self.apply("fraud-score", "risk", "fraud/8", replicas=3, strategy=CANARY, **drift)
        self.apply("pricing", "growth", "pricing/13", replicas=1, strategy=GATED)
        self.apply("claims", "risk", "claims/1")

    def apply(self, name: str, namespace: str, package: str, **spec: Any) -> None:
        """Apply one ModelDeployment as kubectl does, which notes what was applied."""
        model = {"storageUri": f"s3://models/{package}", "trusted": True, "secretName": "s3"}
        whole = {"model": model, **spec}
        note = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"spec": whole})}
        metadata = {"name": name, "labels": {"team": namespace}, "annotations": note}
        manifest = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelDeployment", "metadata": metadata}
        self.kube.apply(MODELDEPLOYMENTS, {**manifest, "spec": whole}, namespace)

    def address(self, name: str, namespace: str) -> str:
        """Where a model answers."""
        return str(self.kube.get(SERVICES, name, namespace)["spec"]["clusterIP"])

    def _phase(self, name: str, namespace: str) -> str:
        return str((self.kube.get(MODELDEPLOYMENTS, name, namespace).get("status") or {}).get("phase"))

    def _upload(self, name: str, version: str, errors: float, limit: float) -> None:
        features = [
            {"name": feature, "dtype": "float64", "example": round(high / 3, 1)}
            for feature, (_, high) in FEATURES.items()
        ]
        outputs = [{"name": "class", "dtype": "int64", "categories": [0, 1]}]
        metadata = {"name": name, "version": version, "input_features": features, "output_features": outputs}
        texts = {"model.py": CODE.format(errors=errors, limit=limit), "model.yaml": yaml.safe_dump(metadata)}
        for file, text in texts.items():
            self._bucket.put_object(Bucket="models", Key=f"{name}/{version}/{file}", Body=text.encode())


@contextmanager
def bucket() -> Iterator[dict[str, str]]:
    """An S3 server on loopback: what leads to it, as environment variables."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line for each request
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo"}
    yield {"AWS_ENDPOINT_URL": f"http://{host}:{port}", **keys}
    server.stop()


@contextmanager
def load(host: str, *, rate: float) -> Iterator[None]:
    """Requests whose amounts grow with time, so that one input drifts; each on a connection of its own."""
    over = threading.Event()
    generator = random.Random(7)  # noqa: S311 - the same requests in every run

    def send() -> None:
        for count in itertools.count():
            if over.wait(1 / rate):
                return
            row = {name: generator.uniform(low, high) for name, (low, high) in FEATURES.items()}
            row["amount"] = min(row["amount"] + count / 12, 1500)
            connection = http.client.HTTPConnection(host, timeout=5)
            try:
                body = json.dumps({"instances": [row]})
                connection.request("POST", "/predict", body, {"content-type": "application/json"})
                connection.getresponse().read()
            except OSError:
                continue
            finally:
                connection.close()

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    yield
    over.set()
    sender.join()


if __name__ == "__main__":
    main()
