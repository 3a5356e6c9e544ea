"""The API server as a proxy to pods and Services: `/api/v1/namespaces/NAMESPACE/pods/NAME/proxy/PATH`.

Called by `server.py` with a request that may pass. Bodies are read whole: what is behind is a model server, whose
requests are small.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from model_sandbox.apiserver.call import Call
from model_sandbox.apiserver.errors import ApiError, Obj, bad_request

if TYPE_CHECKING:
    from model_sandbox.apiserver.server import ApiServer

PATH = re.compile(
    r"/api/v1/namespaces/(?P<namespace>[^/]+)/(?P<plural>pods|services)/(?P<name>[^/]+)/proxy(?P<rest>(?:/.*)?)"
)
VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
#: Headers that do not go through: credentials of the API server, and what concerns one connection alone.
_OWN = ("authorization", "impersonate-", "x-remote-", "host", "content-length", "connection", "transfer-encoding")
_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)


async def handle(server: ApiServer, call: Call, at: dict[str, str]) -> web.Response:
    """Send the request on, and return what is answered. `at` are the groups of `PATH`."""
    scheme, name, port = split(at["name"])
    call.name, call.namespace = name, at["namespace"]
    kind = server.registry.kinds["", "v1", at["plural"]]
    body = server.resources.get(kind, call.key).body
    host, number = (of_pod if at["plural"] == "pods" else of_service)(body, port)
    url = f"{scheme}://{host}:{number}{at['rest'] or '/'}"
    headers = {name: value for name, value in call.request.headers.items() if not name.lower().startswith(_OWN)}
    data = await call.request.read()
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.request(
                call.request.method,
                url,
                params=call.request.query,
                data=data or None,
                headers=headers,
                ssl=False,
                allow_redirects=False,
            ) as source,
        ):
            media = {"Content-Type": source.headers.get("Content-Type", "application/octet-stream")}
            return web.Response(body=await source.read(), status=source.status, headers=media)
    except (aiohttp.ClientError, TimeoutError) as error:
        message = f"error trying to reach service: {error}"
        raise ApiError(503, "ServiceUnavailable", message, details={}) from None


def split(name: str) -> tuple[str, str, str]:
    """Return scheme, name and port of `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`."""
    parts = name.split(":")
    if len(parts) == 3 and parts[0] in ("http", "https", ""):
        return parts[0] or "http", parts[1], parts[2]
    if len(parts) > 2:
        raise bad_request(f'invalid proxy request "{name}"')
    return "http", parts[0], parts[1] if len(parts) == 2 else ""


def of_pod(pod: Obj, port: str) -> tuple[str, int]:
    """Return address and port of a pod; `port` is a number, a name, or "" for its first one."""
    address = (pod.get("status") or {}).get("podIP")
    if not address:
        raise ApiError(503, "ServiceUnavailable", "address not allowed", details={})
    named = {one.get("name"): one["containerPort"] for of in pod["spec"]["containers"] for one in of.get("ports") or ()}
    default = next(iter(named.values()), 80)
    return address, named.get(port) or (int(port) if port.isdigit() else default)


def of_service(service: Obj, port: str) -> tuple[str, int]:
    """Return address and port of a Service; `port` is a number, a name, or "" for its only one."""
    spec, name = service["spec"], service["metadata"]["name"]
    numbers = [one["port"] for one in spec.get("ports") or () if port in (str(one["port"]), one.get("name"))]
    if not port and len(spec.get("ports") or ()) == 1:
        numbers = [spec["ports"][0]["port"]]
    if not numbers or spec.get("clusterIP") in (None, "", "None"):
        message = f'no endpoints available for service "{name}"'
        raise ApiError(503, "ServiceUnavailable", message, details={})
    return spec["clusterIP"], int(numbers[0])
