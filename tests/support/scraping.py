"""A Prometheus that scrapes what the ServiceMonitors of chart and models select, with the labels that these add.

Debian's Prometheus is built without discovery in Kubernetes; it asks `Discovery` over HTTP instead
(https://prometheus.io/docs/prometheus/latest/http_sd/).
"""

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml
from free_ports import free_port

from modeldeploy.kube import Kube, Resource

SERVICES = Resource("", "v1", "services")
SLICES = Resource("discovery.k8s.io", "v1", "endpointslices")
#: Namespace, labels of the Services, and name of the port, by job.
Jobs = dict[str, tuple[str, str, str]]


def targets(kube: Kube, namespace: str, labels: str, port: str) -> list[dict[str, Any]]:
    """Return the pods behind the Services with these labels, in the format of HTTP discovery."""
    services = {one["metadata"]["name"] for one in kube.list(SERVICES, namespace, labels=labels)}
    found = []
    for one in kube.list(SLICES, namespace):
        service = one["metadata"]["labels"]["kubernetes.io/service-name"]
        if service not in services:
            continue
        (number,) = [each["port"] for each in one["ports"] if each["name"] == port]
        found += [
            {
                "targets": [f"{endpoint['addresses'][0]}:{number}"],
                "labels": {"namespace": namespace, "service": service, "pod": endpoint["targetRef"]["name"]},
            }
            for endpoint in one["endpoints"] or ()
        ]
    return found


@contextmanager
def discovery(kubeconfig: Path, jobs: Jobs) -> Iterator[str]:
    """Answer at the URL, followed by the name of a job, with its targets."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with Kube.connect(kubeconfig) as kube:
                body = json.dumps(targets(kube, *jobs[self.path.removeprefix("/")])).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Prometheus asks every second."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _job(name: str, url: str) -> dict[str, Any]:
    # The chart's ServiceMonitor honors labels: the operator's metrics name the namespace of a model.
    asked = [{"url": f"{url}/{name}", "refresh_interval": "1s"}]
    return {"job_name": name, "honor_labels": True, "http_sd_configs": asked}


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus, and how to ask it."""

    url: str
    started: float

    def series(self, selector: str) -> list[dict[str, str]]:
        """Return the labels of the series that were ever scraped."""
        return list(self._get("series", **{"match[]": selector, "start": self.started, "end": time.time()}))

    def history(self, expression: str) -> list[float]:
        """Return all numbers of an expression since the start, second by second."""
        answer = self._get("query_range", query=expression, start=self.started, end=time.time(), step=1)
        return [float(value) for one in answer["result"] for _, value in one["values"] if value != "NaN"]

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules that were loaded, with their health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, what: str, **parameters: Any) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=parameters, trust_env=False, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]


@contextmanager
def prometheus(folder: Path, kubeconfig: Path, jobs: Jobs, rule_groups: Sequence[Any] = ()) -> Iterator[Prometheus]:
    """Run Prometheus on loopback until the context ends."""
    address = f"127.0.0.1:{free_port()}"
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": list(rule_groups)}))
    # Debian's Prometheus keeps its data in one folder of the machine unless it is told otherwise.
    words = ("--config.file", "prometheus.yml", "--storage.tsdb.path", "data", "--web.listen-address", address)
    with discovery(kubeconfig, jobs) as url:
        written = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [_job(name, url) for name in jobs],
            "rule_files": ["rules.yml"],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(written))
        process = subprocess.Popen(["prometheus", *words, "--log.level", "warn"], cwd=folder)
        try:
            yield Prometheus(f"http://{address}", time.time())
        finally:
            process.terminate()
            process.wait()
