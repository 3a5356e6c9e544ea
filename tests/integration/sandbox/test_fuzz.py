"""Objects with anything in any place: each is taken or refused in words, and none finds a fault of the API server.

`make fuzz` asks more (FUZZ=n: a hundredth of that; FUZZ_SEED=n: others).
"""

import copy
import os
import random
from collections.abc import Iterator
from typing import Any

from model_sandbox.testing import sandbox

ASKED = int(os.environ.get("FUZZ", "40000")) // 100
SEED = int(os.environ.get("FUZZ_SEED", "1"))
JUNK: list[Any] = [None, 5, -1, 1.5, 10**30, True, "", "a b", "x" * 300, "\0", "é", "500m", [], [5], [None], [[1]]]
JUNK += [{}, [{}], {"x": 5}, {"x": {"y": [1]}}, {"": None}, {"name": "a"}, [{"name": "a"}] * 2, [{"name": 5}]]
PROBE = {"httpGet": {"path": "/", "port": "http"}}
CONTAINER = {"name": "c", "image": "i:1", "ports": [{"containerPort": 80, "name": "http"}], "readinessProbe": PROBE}
CONTAINER |= {"env": [{"name": "A", "value": "b"}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
POD = {"containers": [CONTAINER], "volumes": [{"name": "v", "emptyDir": {}}]}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": POD}
SELECTOR = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
METRIC = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 5}}}
SPEC = {"x": {"type": "string", "enum": ["a"], "default": "a"}, "n": {"type": "integer", "minimum": 0}}
ITEM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
SPEC |= {"l": {"type": "array", "items": ITEM, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}}
RULES = [{"rule": "self.n >= 0", "message": "m"}]
SCHEMA = {"type": "object", "properties": {"spec": {"type": "object", "properties": SPEC}}}
SCHEMA["properties"]["spec"]["x-kubernetes-validations"] = RULES  # type: ignore[index]
VERSION = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}}
VERSION |= {"additionalPrinterColumns": [{"name": "X", "type": "string", "jsonPath": ".spec.x"}]}
VERSION |= {"subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}}}
NAMES = {"plural": "foos", "kind": "Foo", "shortNames": ["f"]}
OBJECTS: dict[str, Any] = {
    "apis/apiextensions.k8s.io/v1/customresourcedefinitions": {
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.ex.com"},
        "spec": {"group": "ex.com", "scope": "Namespaced", "names": NAMES, "versions": [VERSION]},
    },
    "apis/ex.com/v1/namespaces/default/foos": {"kind": "Foo", "spec": {"x": "a", "n": 1, "l": [{"name": "a"}]}},
    "api/v1/namespaces/default/configmaps": {"kind": "ConfigMap", "data": {"a": "b"}, "binaryData": {"x": "YQ=="}},
    "api/v1/namespaces/default/secrets": {"kind": "Secret", "stringData": {"b": "c"}, "type": "Opaque"},
    "api/v1/namespaces/default/pods": {"kind": "Pod", "spec": POD},
    "api/v1/namespaces/default/services": {
        "kind": "Service",
        "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]},
    },
    "apis/apps/v1/namespaces/default/deployments": {
        "kind": "Deployment",
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "strategy": {"type": "Recreate"}, "template": TEMPLATE},
    },
    "apis/batch/v1/namespaces/default/jobs": {
        "kind": "Job",
        "spec": {"template": {"spec": {**POD, "restartPolicy": "Never"}}},
    },
    "apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers": {
        "kind": "HorizontalPodAutoscaler",
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "m"}, "maxReplicas": 3}
        | {"metrics": [METRIC]},
    },
    "apis/policy/v1/namespaces/default/poddisruptionbudgets": {
        "kind": "PodDisruptionBudget",
        "spec": {"minAvailable": 1, "selector": SELECTOR},
    },
    "apis/rbac.authorization.k8s.io/v1/namespaces/default/roles": {
        "kind": "Role",
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    },
    "api/v1/namespaces/default/events": {
        "kind": "Event",
        "involvedObject": {"kind": "Pod", "name": "x", "namespace": "default"},
        "type": "Normal",
    },
    "apis/discovery.k8s.io/v1/namespaces/default/endpointslices": {
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
    },
}
BELOW = {
    "POST": ["", "?dryRun=All", "?fieldValidation=Strict"],
    "PUT": ["/m", "/m/status", "/m/scale"],
    "PATCH": ["/m?fieldManager=a", "/m?fieldManager=b", "/m/status?fieldManager=a", "/m/scale?fieldManager=a"],
    "DELETE": ["/m?dryRun=All"],
}
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PATCHES = ["merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml", "json-patch+json"]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


def spoiled(body: Any, chance: random.Random) -> Any:
    """A copy with something else in one of its places, or with a place missing."""
    result = at = copy.deepcopy(body)
    *above, last = chance.choice(list(places(body))[1:])
    for key in above:
        at = at[key]
    if chance.random() < 0.9:
        at[last] = copy.deepcopy(chance.choice(JUNK))
    else:
        del at[last]
    return result


def json_patch(body: Any, chance: random.Random) -> Any:
    path = "/" + "/".join(str(key).replace("/", "~1") for key in chance.choice(list(places(body))))
    path += chance.choice(["", "", "/-", "/0", "/x"])
    operation = chance.choice(["add", "remove", "replace", "test", "move", "copy", "none"])
    return [{"op": operation, "path": path, "from": "/metadata/labels", "value": chance.choice(JUNK)}]


async def test_nothing_in_an_object_finds_a_fault(api_of: Any) -> None:
    chance = random.Random(SEED)
    objects = {
        f"/{path}": {
            "apiVersion": "/".join(path.split("/")[1 : 2 if path.startswith("api/") else 3]),
            "metadata": {"name": "m", "labels": {"a": "b"}, "ownerReferences": []},
        }
        | body
        for path, body in OBJECTS.items()
    }
    async with sandbox(controllers=True, pods="instant") as server:
        api = api_of(server)
        for path, body in objects.items():
            assert (await api.send("POST", path, body))[0] == 201, path
        codes = set()
        for _ in range(ASKED):
            path, body = chance.choice(list(objects.items()))
            method, media = chance.choice([*BELOW, "PATCH"]), "json"
            below, given = chance.choice(BELOW[method]), spoiled(body, chance)
            if method == "PATCH" and (media := chance.choice(PATCHES)).startswith("json"):
                given = json_patch(body, chance)
            code, answer = await api.send(method, path + below, given, f"application/{media}")
            codes.add(code)
            async with api.session.get(server.url + path, headers={"Accept": TABLE}) as response:
                shown = await response.text()
            assert "has a bug" not in f"{answer} {shown}", (SEED, method, path + below, media, given)
        assert {200, 400, 409, 422} <= codes
