"""`modeldeploy keda` against a real API server, which fills in the defaults of the spec."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modeldeploy.kube import MODELDEPLOYMENTS, Kube


@pytest.fixture
def fraud(kubeconfig: Path) -> Iterator[None]:
    topics = {"input": "fraud.requests", "output": "fraud.answers", "deadLetter": "fraud.refused"}
    stream = {"redis": {"url": "redis://redis.messaging:6379"}, "secretName": "redis-user", **topics}
    spec = {"model": {"storageUri": "s3://models/fraud/7"}, "server": {"stream": stream}}
    body = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "streamed"}}
    with Kube.connect(kubeconfig) as kube:
        kube.apply(MODELDEPLOYMENTS, {**body, "spec": spec})
        yield
        kube.delete(MODELDEPLOYMENTS, "streamed")


def test_the_manifests_are_printed(run: Callable[..., Any], fraud: None) -> None:
    done = run("keda", "streamed", "--lag", "500", "--max", "20", "--min", "0")
    assert done.code == 0, done.err
    login, scaled = yaml.safe_load_all(done.out)
    assert [entry["name"] for entry in login["spec"]["secretTargetRef"]] == ["redis-user"] * 2
    assert scaled["spec"]["triggers"][0]["metadata"] == {
        "address": "redis.messaging:6379",
        "stream": "fraud.requests",
        "consumerGroup": "default_streamed",
        "lagCount": "500",
    }


def test_what_is_wrong_is_said(run: Callable[..., Any], fraud: None) -> None:
    done = run("keda", "streamed", "--lag", "5", "--max", "1", "--min", "2")
    assert (done.code, "--min 2 is above --max 1" in done.err) == (3, True)
    done = run("keda", "streamed", "--lag", "5", "--max", "1", "--mechanism", "NTLM")
    assert (done.code, "known: PLAIN" in done.err.replace("\n", " ")) == (64, True)
