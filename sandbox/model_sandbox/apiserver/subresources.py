"""What hangs below objects: scale, log, binding, eviction, token; and reviews, which are never stored."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from model_sandbox.apiserver import auth, errors, requests
from model_sandbox.apiserver.errors import ApiError, Cause, Obj
from model_sandbox.apiserver.kinds import Kind
from model_sandbox.apiserver.resources import DeleteOptions, Warnings, check_name
from model_sandbox.apiserver.schema import DecodeError, Unknown, decode
from model_sandbox.apiserver.selectors import match_selector, selector_text

if TYPE_CHECKING:
    from model_sandbox.apiserver.server import ApiServer, Call

# Where a node serves the logs of its pods: http://ADDRESS:PORT/containerLogs/... as a kubelet does.
LOG_PORT_PATH = ("status", "daemonEndpoints", "kubeletEndpoint", "Port")


async def handle(server: ApiServer, call: Call, kind: Kind, namespace: str, name: str, part: str) -> web.StreamResponse:
    """A request to a subresource other than status."""
    method = call.request.method
    if server.registry.subresources.get(f"{kind.plural}/{part}", {}).get("left_out") and not kind.group:
        return _left_out(server, namespace, name, part)
    if part == "scale" and method in ("GET", "PUT", "PATCH"):
        return await _scale(server, call, kind, namespace, name)
    if part == "log" and method == "GET":
        return await _log(server, call, namespace, name)
    if part == "finalize" and method == "PUT":
        return await _finalize(server, call, kind, name)
    if method == "POST" and part in ("binding", "eviction", "token"):
        types = {"binding": "Binding", "eviction": "Eviction", "token": "TokenRequest"}
        body, _ = await server.body(call, types[part], server.registry.types.node(types[part]))
        server.resources.get(kind, namespace, name)
        return {"binding": _bind, "eviction": _evict, "token": _token}[part](server, call, namespace, name, body)
    raise errors.method_not_allowed()


def _left_out(server: ApiServer, namespace: str, name: str, part: str) -> web.Response:
    pod = server.store.get("pods", (namespace, name))
    if pod is not None and not pod.body["spec"].get("nodeName"):
        raise errors.bad_request(f"pod {name} does not have a host assigned")
    hints = {
        "exec": "pods are local processes here: run the command in your own shell, or read `kubectl logs`",
        "attach": "pods are local processes here: read `kubectl logs -f`",
        "portforward": "pod and Service addresses (kubectl get pods,svc -o wide) are reachable from this machine",
        "proxy": "pod and Service addresses (kubectl get pods,svc -o wide) are reachable from this machine",
    }
    told = f"{part} is left out of the sandbox: {hints.get(part, 'change the pod template instead')}"
    raise ApiError(501, "NotImplemented", told, details={})


def _success(call: Call, server: ApiServer, *, status: int = 201) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": status}
    return server.reply(body, call, status=status)


# --- scale


def _paths(kind: Kind) -> tuple[list[str], list[str], list[str]]:
    scale = kind.scale or {}
    texts = (
        scale.get("specReplicasPath", ".spec.replicas"),
        scale.get("statusReplicasPath", ".status.replicas"),
        scale.get("labelSelectorPath", ""),
    )
    spec, status, selector = (text.strip(".").split(".") if text else [] for text in texts)
    return spec, status, selector


def _at(body: Any, path: list[str]) -> Any:
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    return body


def scale_of(kind: Kind, body: Obj) -> Obj:
    """The Scale object of an object."""
    spec, status, selector = _paths(kind)
    meta = body["metadata"]
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    shown: Obj = {"replicas": _at(body, status) or 0}
    chosen = _at(body, selector) if kind.custom and selector else ""
    if not kind.custom:
        chosen = selector_text(body["spec"].get("selector"))
    if chosen:
        shown["selector"] = chosen
    replicas = _at(body, spec)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: meta[name] for name in names if name in meta},
        "spec": {"replicas": replicas} if replicas else {},
        "status": shown,
    }


async def _scale(server: ApiServer, call: Call, kind: Kind, namespace: str, name: str) -> web.Response:
    entry = server.resources.get(kind, namespace, name)
    current = scale_of(kind, entry.body)
    path = _paths(kind)[0]
    if kind.custom and _at(entry.body, path) is None:
        raise errors.internal(f'the spec replicas field ".{".".join(path)}" does not exist')
    if call.request.method == "GET":
        return server.reply(current, call)
    wanted, write = await _wanted_scale(server, call, current, name)
    replicas = (wanted.get("spec") or {}).get("replicas", 0)
    if replicas < 0 and not kind.custom:
        cause = errors.invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
        raise errors.invalid("Scale", "autoscaling", name, [cause])
    version = (wanted.get("metadata") or {}).get("resourceVersion", "")
    if version and version != entry.body["metadata"]["resourceVersion"]:
        raise errors.conflict(kind.plural, kind.group, name)

    def change(shown: Obj) -> Obj:
        at = shown
        for step in path[:-1]:
            at = at.setdefault(step, {})
        at[path[-1]] = replicas
        return shown

    stored = server.resources.update(kind, namespace, name, change, write, Warnings(), "scale")
    return server.reply(scale_of(kind, stored), call)


async def _wanted_scale(server: ApiServer, call: Call, current: Obj, name: str) -> tuple[Obj, Any]:
    write = requests.write_options(call.request.query, call.agent, call.now, options="PatchOptions")
    node = server.registry.types.node("Scale")
    if call.request.method == "PUT":
        wanted, _ = await server.body(call, "Scale", node)
        check_name(wanted.get("metadata"), name)
    else:
        form, data = await server.patch(call)
        if form == "apply":
            wanted = {**current, **requests.parse_applied(data)}
        else:
            kind = Kind(group="autoscaling", version="v1", kind="Scale", plural="scales", node=node)
            wanted = requests.parse_patch(form, data, kind)(copy.deepcopy(current))
    content = {key: value for key, value in wanted.items() if key not in ("kind", "apiVersion")}
    try:
        decoded: Obj = decode(node, content, Unknown())
    except DecodeError as error:
        told = Cause("FieldValueInvalid", "patch", f'Invalid value: "{{}}": {error}')
        raise errors.invalid("", "", "", [told]) from None
    return decoded, write


# --- pods


async def _log(server: ApiServer, call: Call, namespace: str, name: str) -> web.StreamResponse:
    kind = server.registry.kinds["", "v1", "pods"]
    pod = server.resources.get(kind, namespace, name).body
    query = call.request.query
    for number in ("tailLines", "sinceSeconds", "limitBytes"):
        requests.integer(query, number)
    names = [one["name"] for one in pod["spec"].get("containers", [])]
    inits = [one["name"] for one in pod["spec"].get("initContainers", [])]
    container = query.get("container", "")
    if not container:
        if len(names) > 1:
            told = f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
            raise errors.bad_request(told)
        container = names[0]
    elif container not in [*names, *inits]:
        raise errors.bad_request(f"container {container} is not valid for pod {name}")
    node_name = pod["spec"].get("nodeName")
    if not node_name:
        return web.Response(status=204)
    node = server.store.get("nodes", ("", node_name))
    if node is None:
        raise errors.not_found("pods", "", node_name)
    address = next((one["address"] for one in _at(node.body, ["status", "addresses"]) or []), "")
    port = _at(node.body, list(LOG_PORT_PATH))
    if not address or not port:
        raise errors.bad_request(f'node "{node_name}" serves no logs: its pods run no processes')
    url = f"http://{address}:{port}/containerLogs/{namespace}/{name}/{container}"
    return await _relay(call, url, {key: value for key, value in query.items() if key != "container"})


async def _relay(call: Call, url: str, query: dict[str, str]) -> web.StreamResponse:
    """Stream an answer of the node to the client."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, params=query) as source:
            if source.status != 200:
                raise errors.bad_request((await source.text()).strip())
            response = web.StreamResponse(headers={"Content-Type": "text/plain"})
            response.enable_chunked_encoding()
            await response.prepare(call.request)
            async for chunk in source.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response
    except aiohttp.ClientConnectorError as error:
        raise ApiError(500, "InternalError", f"the node does not answer: {error}") from None


def _bind(server: ApiServer, call: Call, namespace: str, name: str, body: Obj) -> web.Response:
    kind = server.registry.kinds["", "v1", "pods"]
    stored = copy.deepcopy(server.resources.get(kind, namespace, name).body)
    held, wanted = stored["spec"].get("nodeName"), (body.get("target") or {}).get("name", "")
    if held:
        raise errors.conflict("pods/binding", "", name, f'pod {name} is already assigned to node "{held}"')
    stored["spec"]["nodeName"] = wanted
    conditions = stored["status"].setdefault("conditions", [])
    conditions[:] = [one for one in conditions if one["type"] != "PodScheduled"]
    conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": call.now})
    server.store.put(kind.storage, (namespace, name), stored)
    return _success(call, server)


def _evict(server: ApiServer, call: Call, namespace: str, name: str, body: Obj) -> web.Response:
    kind = server.registry.kinds["", "v1", "pods"]
    labels = server.resources.get(kind, namespace, name).body["metadata"].get("labels") or {}
    for _, entry in server.store.scan("poddisruptionbudgets.policy", namespace):
        budget = entry.body
        if match_selector(budget["spec"].get("selector"), labels) and budget["status"].get("disruptionsAllowed", 0) < 1:
            needs, has = budget["status"].get("desiredHealthy", 0), budget["status"].get("currentHealthy", 0)
            told = (
                f"The disruption budget {budget['metadata']['name']} needs {needs} healthy pods and has {has} currently"
            )
            cause = Cause("DisruptionBudget", "", told)
            message = "Cannot evict pod as it would violate the pod's disruption budget."
            raise ApiError(429, "TooManyRequests", message, causes=[cause])
    options = body.get("deleteOptions") or {}
    server.resources.delete(kind, namespace, name, DeleteOptions(grace=options.get("gracePeriodSeconds")))
    return _success(call, server)


# --- ServiceAccounts, namespaces, reviews


def _token(server: ApiServer, call: Call, namespace: str, name: str, body: Obj) -> web.Response:
    kind = server.registry.kinds["", "v1", "serviceaccounts"]
    uid = server.resources.get(kind, namespace, name).body["metadata"]["uid"]
    spec = body.get("spec") or {}
    seconds = spec.get("expirationSeconds", 3600)
    expires = int(time.time()) + seconds
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires))
    answer = {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": call.now},
        "spec": {
            "audiences": spec.get("audiences") or ["https://kubernetes.default.svc"],
            "expirationSeconds": seconds,
            "boundObjectRef": spec.get("boundObjectRef"),
        },
        "status": {
            "token": server.tokens.issue(namespace, name, uid, expires=expires),
            "expirationTimestamp": stamp,
        },
    }
    return server.reply(answer, call, status=201)


async def _finalize(server: ApiServer, call: Call, kind: Kind, name: str) -> web.Response:
    body, _ = await server.body(call, "Namespace", kind.node)
    write = requests.write_options(call.request.query, call.agent, call.now, options="UpdateOptions")

    def change(shown: Obj) -> Obj:
        return {**shown, "spec": body.get("spec") or {}}

    stored = server.resources.update(kind, "", name, change, write, Warnings(), "finalize")
    return server.answer(call, kind, stored)


async def review(server: ApiServer, call: Call, kind: Kind) -> web.Response:
    """A review: what the server thinks of a user or token."""
    if call.request.method != "POST":
        raise errors.method_not_allowed()
    body, repeated = await server.body(call, kind.kind, kind.node)
    write = requests.write_options(call.request.query, call.agent, call.now, options="CreateOptions", repeated=repeated)
    decoded = server.resources.decode(kind, body, write, call.warnings)
    decoded.pop("metadata", None)
    spec = decoded.get("spec") or {}
    status: Obj
    if kind.kind == "SelfSubjectReview":
        status = {"userInfo": call.user.body()}
    elif kind.kind == "TokenReview":
        header = f"Bearer {spec.get('token', '')}"
        user = server.tokens.user(header, now=time.time(), store=server.store)
        status = {"authenticated": False, "user": {}} if user is None else {"authenticated": True, "user": user.body()}
    else:
        user = call.user
        if kind.kind == "SubjectAccessReview":
            user = auth.User(spec.get("user", ""), tuple(spec.get("groups") or ()))
        status = {"allowed": auth.is_allowed(server.store, user, _attributes(spec))}
    return server.reply({**decoded, "metadata": {}, "status": status}, call, status=201)


def _attributes(spec: Obj) -> auth.Attributes:
    path = spec.get("nonResourceAttributes")
    if path:
        return auth.Attributes(path.get("verb", ""), path=path.get("path", ""))
    wants = spec.get("resourceAttributes") or {}
    resource = wants.get("resource", "")
    if wants.get("subresource"):
        resource = f"{resource}/{wants['subresource']}"
    return auth.Attributes(
        wants.get("verb", ""), wants.get("group", ""), resource, wants.get("namespace", ""), wants.get("name", "")
    )
