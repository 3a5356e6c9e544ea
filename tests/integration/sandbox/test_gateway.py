"""A Gateway that obeys HTTPRoutes for every request, with real backends."""

import sys
from collections import Counter
from typing import Any

import aiohttp
from waiting import eventually

from model_sandbox.testing import sandbox

CODE = """
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        size = int(self.headers.get("Content-Length", 0))
        body = (os.environ["NAME"] + self.rfile.read(size).decode()).encode()
        print(self.path, flush=True)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer((sys.argv[1], 8080), Handler).serve_forever()
"""
CORE = "/api/v1/namespaces/default"
GATEWAY = "/apis/gateway.networking.k8s.io/v1/namespaces/default"


async def backend(api: Any, name: str) -> None:
    container = {
        "name": "main",
        "image": "python",
        "args": [CODE, "0.0.0.0"],
        "env": [{"name": "NAME", "value": name}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    labels = {"app": name}
    await api.send(
        "POST", f"{CORE}/pods", {"metadata": {"name": name, "labels": labels}, "spec": {"containers": [container]}}
    )
    spec = {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}
    await api.send("POST", f"{CORE}/services", {"metadata": {"name": name}, "spec": spec})


def route(weights: dict[str, int], **more: Any) -> Any:
    backends = [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]
    canary = {
        "matches": [{"headers": [{"name": "x-canary", "value": "1"}]}],
        "backendRefs": [{"name": "new", "port": 80}],
    }
    rules = [canary, {"backendRefs": backends, **more}]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "r"},
        "spec": {"parentRefs": [{"name": "g"}], "hostnames": ["shop.test"], "rules": rules},
    }


def response_headers(**values: str) -> Any:
    added = [{"name": name.replace("_", "-"), "value": value} for name, value in values.items()]
    return {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": added}}


def held(body: Any, kind: str) -> Any:
    return next((one for one in body.get("conditions") or [] if one["type"] == kind), {})


async def test_requests_are_split_matched_and_mirrored(api_of: Any) -> None:
    images = {"python": (sys.executable, "-c")}
    async with sandbox(controllers=True, pods="process", gateway=True, images=images) as server:
        api = api_of(server)

        async def installed() -> bool:
            return (await api.send("GET", f"{GATEWAY}/gateways"))[0] == 200

        await eventually(installed)
        for name in ("old", "new"):
            await backend(api, name)
        listener = {"name": "http", "port": 8000, "protocol": "HTTP"}
        gateway = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "g"},
            "spec": {"gatewayClassName": "sandbox", "listeners": [listener]},
        }
        await api.send("POST", f"{GATEWAY}/gateways", gateway)
        mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "new", "port": 80}, "percent": 100}}
        status, _ = await api.send("POST", f"{GATEWAY}/httproutes", route({"old": 100, "new": 0}, filters=[mirror]))
        assert status == 201

        async def accepted() -> Any:
            _, body = await api.send("GET", f"{GATEWAY}/httproutes/r")
            [parent] = (body.get("status") or {}).get("parents") or [{}]
            good = all(held(parent, kind).get("status") == "True" for kind in ("Accepted", "ResolvedRefs"))
            return good and held(parent, "Accepted")["observedGeneration"] == body["metadata"]["generation"]

        async def programmed() -> Any:
            _, body = await api.send("GET", f"{GATEWAY}/gateways/g")
            found = body.get("status") or {}
            return found["addresses"][0]["value"] if held(found, "Programmed").get("status") == "True" else None

        url = f"http://{await eventually(programmed)}:8000"
        await eventually(accepted)
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(headers={"Host": "shop.test"}, timeout=timeout) as session:

            async def ask(path: str = "/", **headers: str) -> str:
                async with session.post(url + path, data=b"!", headers=headers) as response:
                    return f"{response.status} {await response.text()}"

            async def served() -> bool:
                return await ask() == "200 old!" and await ask(**{"x-canary": "1"}) == "200 new!"

            await eventually(served)
            assert {await ask("/mirrored") for _ in range(5)} == {"200 old!"}
            assert await ask(**{"x-canary": "1"}) == "200 new!"

            async def copied() -> bool:
                async with api.session.get(f"{api.url}{CORE}/pods/new/log") as response:
                    return (await response.text()).count("/mirrored") == 5

            await eventually(copied)
            async with session.get(url, headers={"Host": "other.test"}) as response:
                assert response.status == 404
            _, current = await api.send("GET", f"{GATEWAY}/httproutes/r")
            await api.send("PUT", f"{GATEWAY}/httproutes/r", {**current, "spec": route({"old": 50, "new": 50})["spec"]})
            await eventually(accepted)
            answers = Counter([await ask() for _ in range(200)])
            assert set(answers) == {"200 old!", "200 new!"}
            assert min(answers.values()) > 50

            _, current = await api.send("GET", f"{GATEWAY}/httproutes/r")
            sticky = route({"old": 0, "new": 1})["spec"]
            filters = [response_headers(Set_Cookie="variant=new; Path=/", x_variant="new")]
            sticky["rules"][1]["backendRefs"][1]["filters"] = filters
            await api.send("PUT", f"{GATEWAY}/httproutes/r", {**current, "spec": sticky})
            await eventually(accepted)
            async with session.post(url) as response:
                assert response.cookies["variant"].value == response.headers["x-variant"] == "new"

            _, current = await api.send("GET", f"{GATEWAY}/httproutes/r")
            await api.send("PUT", f"{GATEWAY}/httproutes/r", {**current, "spec": route({"gone": 1})["spec"]})

            async def unresolved() -> Any:
                _, body = await api.send("GET", f"{GATEWAY}/httproutes/r")
                [parent] = body["status"]["parents"]
                return held(parent, "ResolvedRefs").get("reason") == "BackendNotFound"

            await eventually(unresolved)


async def test_a_filter_that_is_left_out_is_said_in_the_status(api_of: Any) -> None:
    async with sandbox(controllers=True, gateway=True) as server:
        api = api_of(server)

        async def installed() -> bool:
            return (await api.send("GET", f"{GATEWAY}/httproutes"))[0] == 200

        await eventually(installed)
        spec = {"gatewayClassName": "sandbox", "listeners": [{"name": "http", "port": 8001, "protocol": "HTTP"}]}
        body = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "g"},
            "spec": spec,
        }
        await api.send("POST", f"{GATEWAY}/gateways", body)
        rewrite = {"type": "URLRewrite", "urlRewrite": {"hostname": "x.test"}}
        await api.send("POST", f"{GATEWAY}/httproutes", route({"old": 1}, filters=[rewrite]))

        async def refused() -> Any:
            _, found = await api.send("GET", f"{GATEWAY}/httproutes/r")
            [parent] = (found.get("status") or {}).get("parents") or [{}]
            return held(parent, "Accepted").get("reason") == "UnsupportedValue"

        assert await eventually(refused)
