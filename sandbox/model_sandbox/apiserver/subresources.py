"""What hangs below objects: scale, log, binding, eviction, token; and reviews, which are never stored."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from model_sandbox.apiserver import auth, bodies, errors, requests
from model_sandbox.apiserver.call import Call
from model_sandbox.apiserver.deletion import delete
from model_sandbox.apiserver.errors import ApiError, Cause, Obj, bad_request
from model_sandbox.apiserver.kinds import Kind
from model_sandbox.apiserver.preserving import check_name
from model_sandbox.apiserver.reading import read
from model_sandbox.apiserver.requests import DeleteOptions, Write
from model_sandbox.apiserver.schema import ANY, DecodeError, Node, decode
from model_sandbox.apiserver.selectors import match_selector, selector_text
from model_sandbox.apiserver.validation import check

if TYPE_CHECKING:
    from model_sandbox.apiserver.server import ApiServer


async def handle(server: ApiServer, call: Call, kind: Kind) -> web.StreamResponse:
    """A request to a subresource other than status."""
    method, part = call.request.method, call.part
    entry = server.registry.subresources.get(f"{kind.plural}/{part}", {}) if not kind.group else {}
    if entry.get("left_out"):
        pod = server.store.get("pods", call.key)
        if pod is not None and not pod.body["spec"].get("nodeName"):
            raise bad_request(f"pod {call.name} does not have a host assigned")
        raise ApiError(501, "NotImplemented", f"{part} is left out of the sandbox: {entry['left_out']}", details={})
    if part == "scale" and method in ("GET", "PUT", "PATCH"):
        return await _scale(server, call, kind)
    if part == "log" and method == "GET":
        return await _log(server, call, kind)
    if part == "finalize" and method == "PUT":
        body, _ = await call.body("Namespace", kind.node)
        spec = {"spec": body.get("spec") or {}}
        stored = server.resources.update(kind, call.key, lambda shown: {**shown, **spec}, call.write(), part)
        return server.answer(call, kind, stored)
    act = _ACTIONS.get(part)
    if act is None or method != "POST":
        raise errors.method_not_allowed()
    node = server.registry.types.node(entry["kind"])
    body, _ = await call.body(entry["kind"], node)
    _check(node, body)
    return server.reply(act(server, call, kind, server.resources.get(kind, call.key).body, body), call, status=201)


def _check(node: Node, body: Obj) -> None:
    """Raise 422 for what the rules of its type have against a body that is not stored."""
    if causes := check(node, body, None):
        group = body.get("apiVersion", "").rpartition("/")[0]
        raise errors.invalid(node.type_name, group, (body.get("metadata") or {}).get("name", ""), causes)


# --- scale

_COLUMNS = ("Desired# .spec.replicas", "Available# .status.replicas")
_SCALE = Kind(group="autoscaling", version="v1", kind="Scale", plural="scales", node=ANY, columns=_COLUMNS)


def _at(body: Any, path: list[str]) -> Any:
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    return body


def _path(kind: Kind, name: str, default: str = "") -> list[str]:
    return [step for step in (kind.scale or {}).get(name, default).split(".") if step]


def scale_of(kind: Kind, body: Obj) -> Obj:
    """The Scale object of an object."""
    meta, selector = body["metadata"], selector_text(body["spec"].get("selector")) if not kind.custom else ""
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Obj = {"replicas": _at(body, _path(kind, "statusReplicasPath", ".status.replicas")) or 0}
    if kind.custom and "labelSelectorPath" in (kind.scale or {}):
        selector = _at(body, _path(kind, "labelSelectorPath"))
    if selector:
        status["selector"] = selector
    replicas = _at(body, _path(kind, "specReplicasPath", ".spec.replicas"))
    return {
        "metadata": {name: meta[name] for name in names if name in meta},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


async def _scale(server: ApiServer, call: Call, kind: Kind) -> web.Response:
    body = server.resources.get(kind, call.key).body
    current, path = scale_of(kind, body), _path(kind, "specReplicasPath", ".spec.replicas")
    if kind.custom and _at(body, path) is None:
        raise errors.internal(f'the spec replicas field ".{".".join(path)}" does not exist')
    if call.request.method == "GET":
        return server.answer(call, _SCALE, current)
    write: Write = call.write()
    wanted = await _wanted_scale(server, call, current)
    replicas = (wanted.get("spec") or {}).get("replicas", 0)
    if replicas < 0 and not kind.custom:
        cause = errors.invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
        raise errors.invalid("Scale", "autoscaling", call.name, [cause])
    if (wanted.get("metadata") or {}).get("resourceVersion") not in (None, body["metadata"]["resourceVersion"]):
        raise errors.conflict(kind.plural, kind.group, call.name)

    def change(shown: Obj) -> Obj:
        at = shown
        for step in path[:-1]:
            at = at.setdefault(step, {})
        at[path[-1]] = replicas
        return shown

    return server.answer(call, _SCALE, scale_of(kind, server.resources.update(kind, call.key, change, write, "scale")))


async def _wanted_scale(server: ApiServer, call: Call, current: Obj) -> Obj:
    node = server.registry.types.node("Scale")
    if call.request.method == "PUT":
        wanted, _ = await call.body("Scale", node)
        check_name(wanted.get("metadata"), call.name)
    else:
        form, data = await call.patch()
        if form == "apply":
            wanted = {**current, **bodies.parse_applied(data)}
        else:
            wanted = bodies.parse_patch(form, data, node)(copy.deepcopy(current))
    content = {name: value for name, value in wanted.items() if name not in ("kind", "apiVersion")}
    try:
        decoded: Obj = decode(node, content, [])
    except DecodeError as error:
        raise errors.bad_patch(str(error)) from None
    return decoded


# --- pods


async def _log(server: ApiServer, call: Call, kind: Kind) -> web.StreamResponse:
    """A pod's log, which its node serves as a kubelet does: http://ADDRESS:PORT/containerLogs/..."""
    pod, (namespace, name) = server.resources.get(kind, call.key).body, call.key
    query = dict(call.request.query)
    for number in ("tailLines", "sinceSeconds", "limitBytes"):
        requests.integer(query, number)
    names = [one["name"] for one in pod["spec"].get("containers", [])]
    inits = [one["name"] for one in pod["spec"].get("initContainers", [])]
    container = query.pop("container", "")
    if not container and len(names) > 1:
        told = f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
        raise bad_request(told)
    if container and container not in [*names, *inits]:
        raise bad_request(f"container {container} is not valid for pod {name}")
    node_name = pod["spec"].get("nodeName")
    if not node_name:
        return web.Response(status=204)
    node = server.store.get("nodes", ("", node_name))
    if node is None:
        raise errors.not_found("pods", "", node_name)
    address = next((one["address"] for one in _at(node.body, ["status", "addresses"]) or []), "")
    port = _at(node.body, ["status", "daemonEndpoints", "kubeletEndpoint", "Port"])
    if not address or not port:
        raise bad_request(f'node "{node_name}" serves no logs: its pods run no processes')
    return await _relay(
        call, f"http://{address}:{port}/containerLogs/{namespace}/{name}/{container or names[0]}", query
    )


async def _relay(call: Call, url: str, query: dict[str, str]) -> web.StreamResponse:
    """Stream an answer of the node to the client."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, params=query) as source:
            if source.status != 200:
                raise bad_request((await source.text()).strip())
            response = web.StreamResponse(headers={"Content-Type": "text/plain"})
            response.enable_chunked_encoding()
            await response.prepare(call.request)
            async for chunk in source.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response
    except aiohttp.ClientConnectorError as error:
        raise ApiError(500, "InternalError", f"the node does not answer: {error}") from None


def _bind(server: ApiServer, call: Call, kind: Kind, pod: Obj, body: Obj) -> Obj:
    held = pod["spec"].get("nodeName")
    if held:
        why = f'pod {call.name} is already assigned to node "{held}"'
        raise errors.conflict("pods/binding", "", call.name, why)
    conditions = [one for one in pod["status"].get("conditions", []) if one["type"] != "PodScheduled"]
    conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": call.now})
    spec = {**pod["spec"], "nodeName": (body.get("target") or {}).get("name", "")}
    stored = {**pod, "spec": spec, "status": {**pod["status"], "conditions": conditions}}
    server.store.put(kind.storage, call.key, stored)
    return errors.success(code=201)


def _evict(server: ApiServer, call: Call, kind: Kind, pod: Obj, body: Obj) -> Obj:
    labels = pod["metadata"].get("labels") or {}
    for (_, name), entry in server.store.scan("poddisruptionbudgets.policy", call.namespace):
        spec, status = entry.body["spec"], entry.body["status"]
        if match_selector(spec.get("selector"), labels) and status.get("disruptionsAllowed", 0) < 1:
            needs, has = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
            told = f"The disruption budget {name} needs {needs} healthy pods and has {has} currently"
            message = "Cannot evict pod as it would violate the pod's disruption budget."
            raise ApiError(429, "TooManyRequests", message, causes=[Cause("DisruptionBudget", "", told)])
    grace = (body.get("deleteOptions") or {}).get("gracePeriodSeconds")
    delete(server.resources, kind, call.key, DeleteOptions(grace=grace))
    return errors.success(code=201)


def _token(server: ApiServer, call: Call, kind: Kind, account: Obj, body: Obj) -> Obj:
    spec, (namespace, name) = body.get("spec") or {}, call.key
    seconds = spec.get("expirationSeconds", 3600)
    expires = int(time.time()) + seconds
    token = server.tokens.issue(namespace, name, account["metadata"]["uid"], expires=expires)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires))
    audiences = spec.get("audiences") or ["https://kubernetes.default.svc"]
    given = {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": spec.get("boundObjectRef")}
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": call.now},
        "spec": given,
        "status": {"token": token, "expirationTimestamp": stamp},
    }


# What a POST does, by subresource: told the object and the body, the answer is what is replied.
_ACTIONS: dict[str, Callable[[ApiServer, Call, Kind, Obj, Obj], Obj]] = {
    "binding": _bind,
    "eviction": _evict,
    "token": _token,
}


# --- reviews


async def review(server: ApiServer, call: Call, kind: Kind) -> web.Response:
    """A review: what the server thinks of a user or token."""
    if call.request.method != "POST":
        raise errors.method_not_allowed()
    body, repeated = await call.body(kind.kind, kind.node)
    decoded = read(kind, body, call.write(repeated))
    _check(kind.node, decoded)
    spec, user = decoded.get("spec") or {}, call.user
    status: Obj
    if kind.kind == "SelfSubjectReview":
        status = {"userInfo": user.body()}
    elif kind.kind == "SelfSubjectRulesReview":
        if not spec.get("namespace"):
            raise bad_request("no namespace on request")
        rules = list(auth.rules(server.store, user, spec["namespace"]))
        parts = ("resourceRules", "apiGroups"), ("nonResourceRules", "nonResourceURLs")
        status = {"incomplete": False, **{part: [rule for rule in rules if rule.get(of)] for part, of in parts}}
    elif kind.kind == "TokenReview":
        known = server.tokens.user(f"Bearer {spec.get('token', '')}", now=time.time(), store=server.store)
        status = {"authenticated": known is not None, "user": known.body() if known is not None else {}}
    else:
        if kind.kind == "SubjectAccessReview":
            user = auth.User(spec.get("user", ""), tuple(spec.get("groups") or ()))
        status = {"allowed": auth.is_allowed(server.store, user, _attributes(spec))}
    return server.reply({**decoded, "metadata": {}, "status": status}, call, status=201)


def _attributes(spec: Obj) -> auth.Attributes:
    path, wants = spec.get("nonResourceAttributes"), spec.get("resourceAttributes") or {}
    if path:
        return auth.Attributes(path.get("verb", ""), path=path.get("path", ""))
    verb, group, resource, part, namespace, name = (
        wants.get(word, "") for word in ("verb", "group", "resource", "subresource", "namespace", "name")
    )
    return auth.Attributes(verb, group, f"{resource}/{part}" if part else resource, namespace, name)
