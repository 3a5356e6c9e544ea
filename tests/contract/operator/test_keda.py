"""What docs/how-to/sleep.md shows for KEDA's HTTP add-on fits the resources that the operator has."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
CRD = yaml.safe_load((ROOT / "crds" / "modeldeployments.yaml").read_text())


def shown() -> dict[str, dict[str, Any]]:
    text = (ROOT / "docs" / "how-to" / "sleep.md").read_text().partition("## With KEDA's HTTP add-on")[2]
    documents = [yaml.safe_load(block.partition("```")[0]) for block in text.split("```yaml")[1:]]
    return {one["kind"]: one for one in documents}


def test_keda_scales_the_resource_by_its_subresource() -> None:
    spec = shown()["ScaledObject"]["spec"]
    (version,) = CRD["spec"]["versions"]
    kind = {"apiVersion": f"{CRD['spec']['group']}/{version['name']}", "kind": CRD["spec"]["names"]["kind"]}
    assert {**spec["scaleTargetRef"], **kind} == spec["scaleTargetRef"]
    scale = version["subresources"]["scale"]
    assert scale["specReplicasPath"] == ".spec.replicas"
    replicas = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["replicas"]
    assert replicas["minimum"] <= spec["minReplicaCount"] <= spec["maxReplicaCount"] <= replicas["maximum"]


def test_the_interceptor_leads_to_the_model_and_its_metric_to_keda() -> None:
    route, scaled = shown()["InterceptorRoute"], shown()["ScaledObject"]
    assert route["spec"]["target"] == {"service": scaled["spec"]["scaleTargetRef"]["name"], "port": 80}
    (trigger,) = scaled["spec"]["triggers"]
    assert (trigger["type"], trigger["metadata"]["interceptorRoute"]) == ("external-push", route["metadata"]["name"])
