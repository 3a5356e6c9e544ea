"""Parts of the specs of ModelDeployments."""

from typing import Any

MODEL = {"storageUri": "s3://models/fraud/7"}
#: What is wrong, a spec with it, and a part of the sentence that refuses it.
Row = tuple[str, dict[str, Any], str]


def canary(**fields: Any) -> dict[str, Any]:
    return {"replicas": 2, "strategy": {"canary": fields}}


def step(**fields: Any) -> dict[str, Any]:
    return canary(steps=[fields])


def ab_test(**fields: Any) -> dict[str, Any]:
    routing = {"gatewayAPI": {"parentRefs": [{"name": "public"}]}}
    needed = {"metric": "conversion", "minimumSampleSize": 100, "trafficRouting": routing}
    return {"strategy": {"abTest": {**needed, **fields}}}
