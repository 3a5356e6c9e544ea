"""A model whose metrics and pages need an API key: clients need it, the operator judges the model without it."""

from typing import Any

import httpx
import pytest
from model_packages import some_rows
from waiting import wait_until

from modeldeploy.kube import MODELDEPLOYMENTS, PODS, Resource

NAME, KEY = "guarded", "s3cret"
SECRETS = Resource("", "v1", "secrets")


def deploy(space: Any, version: str) -> None:
    """Apply a version; it goes live when the pods of both versions have counted enough answers without errors."""
    metrics = [{"name": "errors", "fail": {"ratioMargin": 1.25}, "pass": {"orMax": 0.2}}]
    analysis = {"interval": "1s", "warmup": "0s", "metrics": metrics}
    steps = [{"setWeight": 50}, {"analysis": {"minDuration": "1s", "maxDuration": "2m"}}]
    canary = {"steps": steps, "analysis": analysis, "scaleDownDelaySeconds": 0}
    auth = {"secretName": f"{NAME}-keys", "protect": ["metrics", "docs"]}
    space.apply(NAME, f"quick/breast-cancer/{version}", server={"auth": auth}, strategy={"canary": canary})


@pytest.mark.timeout(240)
def test_the_operator_judges_a_model_whose_metrics_need_a_key(space: Any) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{NAME}-keys"}, "stringData": {"ours": KEY}}
    space.kube.apply(SECRETS, secret)
    deploy(space, "1")
    # Only the metrics tell the version of a model.
    space.wait_live(NAME, "1")

    with httpx.Client(base_url=space.url(NAME), trust_env=False) as client:
        for path in ("/metrics", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 401, path
            assert client.get(path, headers={"x-api-key": KEY}).status_code == 200, path
        assert client.get("/readyz").status_code == 200

    deploy(space, "2")
    address, body = f"{space.url(NAME)}/predict", {"instances": some_rows(5)}

    def is_promoted() -> bool:
        # A new connection each time: without a router connections are what is split.
        for _ in range(10):
            httpx.post(address, json=body, headers={"x-api-key": KEY}, trust_env=False).raise_for_status()
        status = space.kube.get(MODELDEPLOYMENTS, NAME)["status"]
        return status.get("model", {}).get("version") == "2" and not status.get("canaryRevision")

    wait_until(is_promoted, "the second version is promoted by what its pods counted", seconds=150)
    entry = space.kube.get(MODELDEPLOYMENTS, NAME)["status"]["history"][0]
    assert entry["result"] == "Promoted", entry
    pods = space.kube.list(PODS, labels=f"modeldeploy.dev/name={NAME}")
    assert all(pod["metadata"]["labels"]["modeldeploy.dev/protects-metrics"] == "true" for pod in pods)
