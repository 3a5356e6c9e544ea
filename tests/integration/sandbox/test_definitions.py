"""What a changed definition does to objects, watches and reads, as kube-apiserver 1.36 was observed to do."""

import asyncio
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from waiting import eventually

from model_sandbox.apiserver.auth import User
from model_sandbox.client import Connection
from model_sandbox.control_plane import control_plane
from model_sandbox.controllers.base import run
from model_sandbox.proxy import gateway
from model_sandbox.testing import sandbox

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
LAMPS = "/apis/example.com/v1/namespaces/default/lamps"
MERGE = "application/merge-patch+json"
WATTS, SHADE = {"watts": {"type": "integer"}}, {"shade": {"type": "string", "default": "green"}}


def definition(fields: Any, group: str = "example.com", approved: str | None = None) -> Any:
    spec = {"type": "object", "properties": fields}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    annotations = {} if approved is None else {"api-approved.kubernetes.io": approved}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"lamps.{group}", "annotations": annotations},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Lamp", "plural": "lamps"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


async def define(api: Any, fields: Any) -> None:
    """Change the definition, and send the first request for the kind, which sets up its storage."""
    body = {"spec": {"versions": definition(fields)["spec"]["versions"]}}
    assert (await api.send("PATCH", f"{DEFINITIONS}/lamps.example.com", body, MERGE))[0] == 200
    assert (await api.send("GET", f"{LAMPS}/a"))[0] in (200, 404)


async def lamp(api: Any) -> Any:
    """A definition, and an object of it that was written before any default."""
    assert (await api.send("POST", DEFINITIONS, definition(WATTS)))[0] == 201
    body = {"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": "a"}, "spec": {"watts": 5}}
    status, created = await api.send("POST", LAMPS, body)
    assert status == 201
    return created


async def shown(api: Any) -> Any:
    return (await api.send("GET", f"{LAMPS}/a"))[1]


async def test_a_new_default_shows_in_objects_that_are_there(api_of: Any) -> None:
    async with sandbox() as server:
        api = api_of(server)
        before = await lamp(api)
        await define(api, WATTS | SHADE)
        body, version = await shown(api), before["metadata"]["resourceVersion"]
        assert (body["spec"], body["metadata"]["resourceVersion"]) == ({"watts": 5, "shade": "green"}, version)
        assert [one["spec"] for one in (await api.send("GET", LAMPS))[1]["items"]] == [body["spec"]]
        async with api.session.get(f"{api.url}{LAMPS}?watch=true") as watch:
            event = json.loads(await watch.content.readline())
        assert (event["type"], event["object"]["spec"]) == ("ADDED", body["spec"])


async def test_a_default_that_was_never_written_goes_with_its_definition(api_of: Any) -> None:
    async with sandbox() as server:
        api = api_of(server)
        await lamp(api)
        await define(api, WATTS | SHADE)
        await define(api, WATTS | {"shade": {"type": "string"}})
        assert (await shown(api))["spec"] == {"watts": 5}


async def test_the_next_write_stores_defaults_even_without_a_change(api_of: Any) -> None:
    async with sandbox() as server:
        api = api_of(server)
        before = await lamp(api)
        await define(api, WATTS | SHADE)
        status, after = await api.send("PATCH", f"{LAMPS}/a", {}, MERGE)
        assert (status, after["spec"]) == (200, {"watts": 5, "shade": "green"})
        assert after["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
        assert after["metadata"]["generation"] == before["metadata"]["generation"]
        assert after["metadata"]["managedFields"] == before["metadata"]["managedFields"]
        await define(api, WATTS | {"shade": {"type": "string"}})
        assert (await shown(api))["spec"] == after["spec"]


async def test_fields_that_a_definition_no_longer_has_are_not_shown(api_of: Any) -> None:
    async with sandbox() as server:
        api = api_of(server)
        await lamp(api)
        await define(api, SHADE)
        assert (await shown(api))["spec"] == {"shade": "green"}
        await define(api, WATTS)
        assert (await shown(api))["spec"] == {"watts": 5}


async def test_defaults_show_after_a_restart_too(tmp_path: Path, api_of: Any) -> None:
    async with control_plane(state=tmp_path) as server:
        api = api_of(server)
        await lamp(api)
        await define(api, WATTS | SHADE)
    async with control_plane(state=tmp_path) as server:
        api = api_of(server)
        assert (await shown(api))["spec"] == {"watts": 5, "shade": "green"}
        await define(api, WATTS)
        assert (await shown(api))["spec"] == {"watts": 5}


async def test_watches_end_when_the_definition_changes_and_do_not_resume(api_of: Any) -> None:
    async with sandbox() as server:
        api = api_of(server)
        before = await lamp(api)
        url = f"{api.url}{LAMPS}?watch=true&resourceVersion={before['metadata']['resourceVersion']}"
        async with api.session.get(url) as watch:
            await define(api, WATTS | SHADE)
            assert await watch.content.read() == b""
        async with api.session.get(url) as watch:
            event = json.loads(await watch.content.readline())
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
        assert "too old resource version" in event["object"]["message"]


@pytest.mark.parametrize("query", ["", "?watch=true"])
async def test_the_first_list_or_watch_after_a_change_waits_for_the_storage(api_of: Any, query: str) -> None:
    async with sandbox() as server:
        api = api_of(server)
        await lamp(api)
        body = {"spec": {"versions": definition(WATTS | SHADE)["spec"]["versions"]}}
        await api.send("PATCH", f"{DEFINITIONS}/lamps.example.com", body, MERGE)
        async with api.session.get(f"{api.url}{LAMPS}{query}") as refused:
            told = await refused.json()
            assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        assert (told["reason"], told["message"]) == ("TooManyRequests", "storage is (re)initializing")
        async with api.session.get(f"{api.url}{LAMPS}{query}") as again:
            assert again.status == 200


@pytest.mark.parametrize("path", ["/a", "?resourceVersion=0", "?limit=1"])
async def test_what_needs_no_cache_is_answered_at_once(api_of: Any, path: str) -> None:
    async with sandbox() as server:
        api = api_of(server)
        await lamp(api)
        body = {"spec": {"versions": definition(WATTS | SHADE)["spec"]["versions"]}}
        await api.send("PATCH", f"{DEFINITIONS}/lamps.example.com", body, MERGE)
        assert (await api.send("GET", LAMPS + path))[0] == 200


async def test_a_definition_whose_spec_stays_keeps_its_watches(api_of: Any) -> None:
    async with sandbox() as server:
        api = api_of(server)
        await lamp(api)
        async with api.session.get(f"{api.url}{LAMPS}?watch=true") as watch:
            await watch.content.readline()
            labels = {"metadata": {"labels": {"a": "b"}}}
            await api.send("PATCH", f"{DEFINITIONS}/lamps.example.com", labels, MERGE)
            await api.send("PATCH", f"{LAMPS}/a", {"spec": {"watts": 6}}, MERGE)
            assert json.loads(await watch.content.readline())["type"] == "MODIFIED"


# --- groups of Kubernetes


@pytest.mark.parametrize("group", ["lamps.k8s.io", "k8s.io", "lamps.kubernetes.io"])
@pytest.mark.parametrize(
    ("approved", "reason", "told"),
    [
        (None, "FieldValueRequired", "Required value: protected groups must have approval annotation "),
        ("", "FieldValueRequired", "Required value: protected groups must have approval annotation "),
        ("sandbox subset", "FieldValueInvalid", 'Invalid value: "sandbox subset": protected groups must have '),
        ("http:x", "FieldValueInvalid", 'Invalid value: "http:x": protected groups must have approval annotation '),
    ],
)
async def test_kubernetes_groups_need_an_approval(
    api_of: Any, group: str, approved: str | None, reason: str, told: str
) -> None:
    async with sandbox() as server:
        status, body = await api_of(server).send("POST", DEFINITIONS, definition(WATTS, group, approved))
    [cause] = body["details"]["causes"]
    assert (status, cause["reason"]) == (422, reason)
    assert cause["field"] == "metadata.annotations[api-approved.kubernetes.io]"
    assert cause["message"].startswith(told)


@pytest.mark.parametrize(
    ("approved", "status", "reason", "message"),
    [
        ("unapproved, a test", "False", "UnapprovedAnnotation", 'not approved: "unapproved, a test"'),
        ("https://example.com/pull/1", "True", "ApprovedAnnotation", "approved in https://example.com/pull/1"),
    ],
)
async def test_an_approval_is_a_condition(api_of: Any, approved: str, status: str, reason: str, message: str) -> None:
    async with sandbox() as server:
        api = api_of(server)
        assert (await api.send("POST", DEFINITIONS, definition(WATTS, "lamps.k8s.io", approved)))[0] == 201
        url = f"{DEFINITIONS}/lamps.lamps.k8s.io"
        conditions = {one["type"]: one for one in (await api.send("GET", url))[1]["status"]["conditions"]}
        held = conditions["KubernetesAPIApprovalPolicyConformant"]
        assert (held["status"], held["reason"], held["message"]) == (status, reason, message)
        assert conditions["Established"]["status"] == "True"
        annotations = {"metadata": {"annotations": {"api-approved.kubernetes.io": "https://example.com/pull/2"}}}
        assert (await api.send("PATCH", url, annotations, MERGE))[0] == 200
        conditions = {one["type"]: one for one in (await api.send("GET", url))[1]["status"]["conditions"]}
        held = conditions["KubernetesAPIApprovalPolicyConformant"]
        assert held["message"] == "approved in https://example.com/pull/2"
        gone = {"metadata": {"annotations": {"api-approved.kubernetes.io": None}}}
        assert (await api.send("PATCH", url, gone, MERGE))[0] == 422


async def test_other_groups_need_no_approval(api_of: Any) -> None:
    async with sandbox() as server:
        api = api_of(server)
        assert (await api.send("POST", DEFINITIONS, definition(WATTS, "k8s.io.example.com")))[0] == 201
        conditions = (await api.send("GET", f"{DEFINITIONS}/lamps.k8s.io.example.com"))[1]["status"]["conditions"]
        assert {one["type"] for one in conditions} == {"NamesAccepted", "Established"}


# --- the gateway against any API server


def allowed() -> list[Any]:
    """The rights of a gateway that may not create definitions."""
    reads = ["get", "list", "watch"]
    own = {"resources": ["*"], "verbs": [*reads, "create", "patch", "update"]}
    rules = [
        {"apiGroups": ["gateway.networking.k8s.io"], **own},
        {"apiGroups": ["", "discovery.k8s.io"], "resources": ["services", "endpointslices"], "verbs": reads},
    ]
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "gateway"}}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "gateway"}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "gateway"}]
    binding = {**rbac, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": subjects}
    return [("clusterroles", {**rbac, "kind": "ClusterRole", "rules": rules}), ("clusterrolebindings", binding)]


async def test_a_gateway_whose_definitions_are_refused_uses_those_that_come(api_of: Any) -> None:
    text = (files("model_sandbox") / "data" / "gateway.yaml").read_text()
    definitions = [body for body in yaml.safe_load_all(text) if body["kind"] == "CustomResourceDefinition"]
    user = User("gateway", ("system:authenticated",))
    async with sandbox(users={"gatewaytoken": user}) as server:
        api = api_of(server)
        for plural, body in allowed():
            assert (await api.send("POST", f"/apis/rbac.authorization.k8s.io/v1/{plural}", body))[0] == 201
        running = asyncio.create_task(run(Connection(server.url, "gatewaytoken"), gateway.run))
        try:
            for body in definitions:
                assert (await api.send("POST", DEFINITIONS, body))[0] == 201

            async def accepted() -> bool:
                assert not running.done()
                status, body = await api.send("GET", "/apis/gateway.networking.k8s.io/v1/gatewayclasses/sandbox")
                conditions = (body.get("status") or {}).get("conditions") or [] if status == 200 else []
                return ("Accepted", "True") in [(one["type"], one["status"]) for one in conditions]

            await eventually(accepted)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
