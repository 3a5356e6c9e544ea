"""Pods as processes: what a kubelet would do with them."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from waiting import eventually

from model_sandbox.control_plane import control_plane
from model_sandbox.testing import sandbox

PODS = "/api/v1/namespaces/default/pods"
PYTHON = {"python": (sys.executable, "-c")}
SERVER = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path != "/no" else 500)
        self.end_headers()
        self.wfile.write(os.environ["NAME"].encode())
    def log_message(self, *arguments):
        pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("listening", flush=True)
http.server.ThreadingHTTPServer((sys.argv[1], 8080), Handler).serve_forever()
"""


def pod(name: str, code: str, *arguments: str, policy: str = "Always", spec: Any = None, **container: Any) -> Any:
    return {
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": policy,
            "terminationGracePeriodSeconds": 3,
            "containers": [{"name": "main", "image": "python", "args": [code, *arguments], **container}],
            **(spec or {}),
        },
    }


async def ended(api: Any, name: str) -> Any:
    async def look() -> Any:
        _, body = await api.send("GET", f"{PODS}/{name}")
        statuses = body["status"].get("containerStatuses") or [{}]
        return statuses[0].get("state", {}).get("terminated") or statuses[0].get("lastState", {}).get("terminated")

    return await eventually(look)


async def status(api: Any, name: str, **wanted: Any) -> Any:
    async def look() -> Any:
        _, body = await api.send("GET", f"{PODS}/{name}")
        found = body["status"]
        return found if all(found.get(key) == value for key, value in wanted.items()) else None

    return await eventually(look)


async def log(api: Any, name: str, query: str = "") -> str:
    async with api.session.get(f"{api.url}{PODS}/{name}/log{query}") as response:
        return str(await response.text())


async def test_a_pod_runs_to_its_end(api_of: Any) -> None:
    code = "import sys; print('one'); print('two'); open('/dev/termination-log', 'w').write('why'); sys.exit(3)"
    code = code.replace("'/dev/termination-log'", "sys.argv[1]")
    async with sandbox(controllers=True, pods="process", images=PYTHON) as server:
        api = api_of(server)
        await api.send("POST", PODS, pod("job", code, "/dev/termination-log", policy="Never"))
        found = await status(api, "job", phase="Failed")
        state = found["containerStatuses"][0]["state"]["terminated"]
        assert (state["exitCode"], state["reason"], state["message"]) == (3, "Error", "why")
        assert await log(api, "job") == "one\ntwo\n"
        assert await log(api, "job", "?tailLines=1") == "two\n"


async def test_a_crashing_container_is_restarted_with_pauses(api_of: Any) -> None:
    async with sandbox(controllers=True, pods="process", images=PYTHON, backoff=0.1) as server:
        api = api_of(server)
        await api.send("POST", PODS, pod("crash", "print('bye'); raise SystemExit(1)"))

        async def crashed() -> Any:
            _, body = await api.send("GET", f"{PODS}/crash")
            [container] = body["status"].get("containerStatuses") or [{"restartCount": 0}]
            waiting = container.get("state", {}).get("waiting", {})
            return container if container["restartCount"] >= 2 and waiting.get("reason") == "CrashLoopBackOff" else None

        container = await eventually(crashed)
        assert container["lastState"]["terminated"]["exitCode"] == 1
        assert await log(api, "crash", "?previous=true") == "bye\n"


@pytest.mark.parametrize(
    ("container", "reason", "told"),
    [
        pytest.param({"image": "nginx"}, "ImagePullBackOff", "Known images:", id="an unknown image"),
        pytest.param(
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}}]},
            "CreateContainerConfigError",
            'secret "none" not found',
            id="a missing Secret",
        ),
    ],
)
async def test_a_container_that_cannot_start_says_why(container: Any, reason: str, told: str, api_of: Any) -> None:
    async with sandbox(controllers=True, pods="process", images=PYTHON) as server:
        api = api_of(server)
        await api.send("POST", PODS, pod("stuck", "0", **container))

        async def waiting() -> Any:
            _, body = await api.send("GET", f"{PODS}/stuck")
            [found] = body["status"].get("containerStatuses") or [{}]
            state = found.get("state", {}).get("waiting", {})
            return state if state.get("reason") == reason else None

        assert told in (await eventually(waiting))["message"]


async def test_a_service_reaches_ready_pods_alone_and_lets_them_finish(api_of: Any) -> None:
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    fields = {
        "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "readinessProbe": probe,
    }
    async with sandbox(controllers=True, pods="process", proxy=True, images=PYTHON) as server:
        api = api_of(server)
        service = {
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "good"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }
        _, made = await api.send("POST", "/api/v1/namespaces/default/services", service)
        await api.send("POST", PODS, pod("good", SERVER, "0.0.0.0", **fields))
        bad = pod("bad", SERVER, "0.0.0.0", **{**fields, "readinessProbe": {"httpGet": {"path": "/no", "port": 8080}}})
        bad["metadata"]["labels"] = {"app": "good"}
        await api.send("POST", PODS, bad)
        url = f"http://{made['spec']['clusterIP']}/"

        async def answered() -> str:
            try:
                async with aiohttp.ClientSession() as session, session.get(url) as response:
                    return str(await response.text())
            except aiohttp.ClientError:
                return ""

        await eventually(answered)
        assert {await answered() for _ in range(10)} == {"good"}
        assert await log(api, "good") == "listening\n"
        await api.send("DELETE", f"{PODS}/good")

        async def refused() -> bool:
            return await answered() == ""

        assert await eventually(refused)


async def test_volumes_and_paths(api_of: Any) -> None:
    code = (
        "import os, sys; print(open(sys.argv[1]).read()); print(os.environ['WHERE']); "
        "print(open(os.environ['PODINFO'] + '/name').read())"
    )
    async with sandbox(controllers=True, pods="process", images=PYTHON) as server:
        api = api_of(server)
        await api.send(
            "POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "cm"}, "data": {"k": "v"}}
        )
        spec = {
            "volumes": [
                {"name": "cm", "configMap": {"name": "cm"}},
                {
                    "name": "info",
                    "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]},
                },
            ]
        }
        mounts = [{"name": "cm", "mountPath": "/etc/cm"}, {"name": "info", "mountPath": "/info"}]
        env = [{"name": "WHERE", "value": "file:///etc/cm/k"}, {"name": "PODINFO", "value": "/info"}]
        await api.send(
            "POST", PODS, pod("vol", code, "/etc/cm/k", policy="Never", spec=spec, volumeMounts=mounts, env=env)
        )
        await status(api, "vol", phase="Succeeded")
        content, where, name = (await log(api, "vol")).splitlines()
        assert (content, name) == ("v", "vol")
        assert where.endswith("/volumes/cm/k")


async def test_a_changed_config_map_reaches_the_volume_of_a_running_pod(api_of: Any) -> None:
    code = "import sys, time\nwhile open(sys.argv[1]).read() != 'new': time.sleep(0.05)\nprint('seen')"
    maps = "/api/v1/namespaces/default/configmaps"
    async with sandbox(controllers=True, pods="process", images=PYTHON) as server:
        api = api_of(server)
        await api.send("POST", maps, {"metadata": {"name": "cm"}, "data": {"k": "old"}})
        spec = {"volumes": [{"name": "cm", "configMap": {"name": "cm"}}]}
        mounts = [{"name": "cm", "mountPath": "/etc/cm"}]
        await api.send("POST", PODS, pod("vol", code, "/etc/cm/k", policy="Never", spec=spec, volumeMounts=mounts))
        await status(api, "vol", phase="Running")
        await api.send("PUT", f"{maps}/cm", {"metadata": {"name": "cm"}, "data": {"k": "new"}})
        await status(api, "vol", phase="Succeeded")
        assert await log(api, "vol") == "seen\n"


async def test_a_pod_reaches_the_api_server_as_its_service_account(api_of: Any) -> None:
    code = "import os; print(open(os.environ['KUBECONFIG']).read())"
    async with sandbox(controllers=True, pods="process", images=PYTHON) as server:
        api = api_of(server)
        await api.send("POST", PODS, pod("who", code, policy="Never"))
        await status(api, "who", phase="Succeeded")
        config = yaml.safe_load(await log(api, "who"))
        token = config["users"][0]["user"]["token"]
        # Where kubectl in a pod finds it; nobody else's token stands there.
        assert config["clusters"][0]["cluster"]["server"] == f"{server.url}/as/{token}"
        headers = {"Authorization": f"Bearer {token}"}
        async with api.session.get(f"{api.url}{PODS}", headers=headers) as response:
            told = (await response.json())["message"]
        assert 'User "system:serviceaccount:default:default" cannot list resource "pods"' in told


async def test_a_pod_is_asked_and_then_made_to_end(api_of: Any) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('no', flush=True)); "
        "print('up', flush=True); time.sleep(60)"
    )
    async with sandbox(controllers=True, pods="process", images=PYTHON) as server:
        api = api_of(server)
        await api.send("POST", PODS, pod("stubborn", stubborn))

        async def up() -> bool:
            return "up" in await log(api, "stubborn")

        await eventually(up)
        await api.send("DELETE", f"{PODS}/stubborn?gracePeriodSeconds=1")

        async def gone() -> bool:
            return (await api.send("GET", f"{PODS}/stubborn"))[0] == 404

        assert await eventually(gone)


def processes(text: str) -> list[int]:
    """The processes with a text in their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if text.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return [pid for pid in found if pid != os.getpid()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["a signal to end", "kill -9"])
async def test_nothing_is_left_behind(number: signal.Signals, tmp_path: Path, api_of: Any) -> None:
    mark = f"sandbox-test-{os.getpid()}-{number}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "model_sandbox", "up", "--state", str(tmp_path / "state"), "--token", "token",
        "--image", "box=/bin/sh",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(20):
        lines = [(await process.stdout.readline()).decode() for _ in range(4)]
    assert lines[3].startswith("export KUBECONFIG=")

    class Server:
        url, token = lines[2].split()[-1], "token"

    api = api_of(Server)
    # A child and a grandchild: the whole group must go.
    body = pod("p", "unused", image="box")
    body["spec"]["containers"][0]["args"] = ["-c", f"sleep 1000 & sleep 1000; : {mark}"]
    code, answer = await api.send("POST", PODS, body)
    assert code == 201, answer

    async def started() -> bool:
        return bool(processes(mark))

    await eventually(started)
    process.send_signal(number)
    await asyncio.wait_for(process.wait(), 15)

    async def ended_all() -> bool:
        return not processes(mark) and not processes(str(tmp_path))

    assert await eventually(ended_all)


async def test_objects_survive_a_restart(tmp_path: Path, api_of: Any) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    async with control_plane(state=tmp_path) as plane:
        _, made = await api_of(plane).send("POST", path, {"metadata": {"name": "m"}, "data": {"a": "b"}})
        await api_of(plane).send("POST", path, {"metadata": {"name": "gone"}})
        await api_of(plane).send("DELETE", f"{path}/gone")
    async with control_plane(state=tmp_path) as plane:
        _, found = await api_of(plane).send("GET", f"{path}/m")
        assert found == made
        assert (await api_of(plane).send("GET", f"{path}/gone"))[0] == 404
        _, later = await api_of(plane).send("POST", path, {"metadata": {"name": "n"}})
        assert int(later["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


async def test_a_state_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "objects.db").write_bytes(b"something else that is longer than a header" * 100)
    with pytest.raises(ValueError, match="move the file away"):
        async with control_plane(state=tmp_path):
            pass


@pytest.mark.parametrize(
    ("code", "limit", "condition", "counts"),
    [
        pytest.param("print('done')", 0, "Complete", {"succeeded": 2}, id="until enough pods succeeded"),
        pytest.param("raise SystemExit(1)", 0, "Failed", {}, id="until too many failed"),
    ],
)
async def test_a_job_runs(code: str, limit: int, condition: str, counts: Any, api_of: Any) -> None:
    jobs = "/apis/batch/v1/namespaces/default/jobs"
    container = {"name": "main", "image": "python", "args": [code]}
    spec = {
        "completions": 2,
        "parallelism": 2,
        "backoffLimit": limit,
        "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
    }
    async with sandbox(controllers=True, pods="process", images=PYTHON) as server:
        api = api_of(server)
        code_, answer = await api.send("POST", jobs, {"metadata": {"name": "j"}, "spec": spec})
        assert code_ == 201, answer

        async def ended_so() -> Any:
            _, body = await api.send("GET", f"{jobs}/j")
            found = body.get("status") or {}
            return found if any(one["type"] == condition for one in found.get("conditions") or []) else None

        found = await eventually(ended_so)
        assert {name: found[name] for name in counts} == counts
