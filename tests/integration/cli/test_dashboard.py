"""The dashboard against a real API server: what it says where it cannot read, and as whom it acts in a cluster."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from modeldeploy.kube import CRDS, MODELDEPLOYMENTS, MODELPOOLS, SERVICES, Kube, Resource
from modeldeploy.stand import Child, start_sandbox, wait_until
from modeldeploy.stand.process import environment

ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles")
BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings")
MANIFEST = {
    "apiVersion": "modeldeploy.dev/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "fraud"},
    "spec": {"model": {"storageUri": "s3://models/fraud/7"}},
}
ROLLING = {
    "observedGeneration": 1,
    "phase": "Paused",
    "message": "step 2/3: 25 % on 6f8d, paused until promoted",
    "stableRevision": "5c1a",
    "canaryRevision": "6f8d",
    "step": "2/3",
    "currentStepIndex": 1,
    "weights": {"desired": 25},
    "pauseConditions": [{"reason": "PauseStep", "startTime": "2026-05-01T11:00:00Z"}],
}


@contextmanager
def dashboard(kubeconfig: Path, log: Path, *options: str) -> Iterator[httpx.Client]:
    """A dashboard, and a client with its session."""
    words = ["--kubeconfig", str(kubeconfig), "dashboard", "--no-browser", *options]
    child = Child("dashboard", [sys.executable, "-m", "modeldeploy", *words], log=log, env=environment())
    with child:
        link = child.wait_for(r"^The dashboard is at (\S+)$", seconds=30)[1]
        base = link.partition("?")[0]
        with httpx.Client(base_url=base, trust_env=False, timeout=30) as client:
            client.get(link)
            yield client
    assert "Traceback" not in log.read_text()


def shows(client: httpx.Client, text: str, path: str = "/") -> str:
    """Wait until a page shows a text, and return the page."""
    return wait_until(lambda: _page(client, text, path), f"{path} shows {text!r}", seconds=20) or ""


def _page(client: httpx.Client, text: str, path: str) -> str:
    found = client.get(path, headers={"accept": "text/html"}).text
    return found if text in found else ""


@pytest.fixture
def kube(kubeconfig: Path) -> Iterator[Kube]:
    with Kube.connect(kubeconfig) as connection:
        yield connection


@pytest.fixture
def fraud(kube: Kube) -> Iterator[None]:
    kube.apply(MODELDEPLOYMENTS, MANIFEST)
    kube.merge(MODELDEPLOYMENTS, "fraud", {"status": ROLLING}, subresource="status")
    yield
    kube.delete(MODELDEPLOYMENTS, "fraud")


def as_user(kubeconfig: Path, folder: Path, token: str) -> Path:
    """A kubeconfig with another token."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    cluster["server"] = cluster["server"].partition("/as/")[0]
    config["users"][0]["user"] = {"token": token}
    (folder / "config").write_text(yaml.safe_dump(config))
    return folder / "config"


def account(kube: Kube, name: str, *rules: dict[str, Any]) -> str:
    """Make a ServiceAccount with these rights, and return a token of it."""
    kube.apply(Resource("", "v1", "serviceaccounts"), _object("v1", "ServiceAccount", name))
    rbac = "rbac.authorization.k8s.io/v1"
    kube.apply(ROLES, {**_object(rbac, "Role", name), "rules": list(rules)})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": "default"}
    kube.apply(BINDINGS, {**_object(rbac, "RoleBinding", name), "roleRef": reference, "subjects": [subject]})
    path = f"/api/v1/namespaces/default/serviceaccounts/{name}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    return str(kube._transport.send("post", path, body=body)["status"]["token"])


def _object(version: str, kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}


READ = {"apiGroups": ["modeldeploy.dev"], "resources": ["modeldeployments"], "verbs": ["get", "list", "watch"]}
PATCH = {"apiGroups": ["modeldeploy.dev"], "resources": ["modeldeployments"], "verbs": ["get", "patch"]}


POOL = {
    "apiVersion": "modeldeploy.dev/v1alpha1",
    "kind": "ModelPool",
    "metadata": {"name": "small"},
    "spec": {"models": [{"name": "a", "storageUri": "s3://models/a"}]},
}


def test_it_shows_pools(kubeconfig: Path, kube: Kube, tmp_path: Path) -> None:
    with dashboard(kubeconfig, tmp_path / "log") as client:
        assert "There are no pools here" in client.get("/pools").text
        kube.apply(MODELPOOLS, POOL)
        try:
            assert "/pools/default/small" in client.get("/pools").text
            page = client.get("/pools/default/small")
            assert (page.status_code, "No pod has said anything yet" in page.text) == (200, True)
        finally:
            kube.delete(MODELPOOLS, "small")
        gone = client.get("/pools/default/none", headers={"accept": "text/html"})
        assert (gone.status_code, "There is no ModelPool &#39;none&#39;" in gone.text) == (404, True)


def test_who_may_not_read_pools_is_told_so(kubeconfig: Path, kube: Kube, tmp_path: Path) -> None:
    token = account(kube, "models-only", READ)
    with dashboard(as_user(kubeconfig, tmp_path, token), tmp_path / "log") as client:
        refused = client.get("/pools", headers={"accept": "text/html"})
        assert (refused.status_code, "You are not allowed to do this" in refused.text) == (403, True)


@pytest.mark.usefixtures("fraud")
def test_it_shows_what_the_api_server_has_and_follows_it(kubeconfig: Path, kube: Kube, tmp_path: Path) -> None:
    with dashboard(kubeconfig, tmp_path / "log") as client:
        assert "Waits for a person" in shows(client, "fraud")
        page = shows(client, "6f8d", "/models/default/fraud")
        assert "25 %" in page
        with client.stream("GET", "/events") as stream:
            lines = stream.iter_lines()
            kube.merge(MODELDEPLOYMENTS, "fraud", {"status": {"message": "new <b>words</b>"}}, subresource="status")
            assert "new &lt;b&gt;words&lt;/b&gt;" in next(line for line in lines if "words" in line)


def test_who_opens_many_pages_is_told_so_and_leaves_places_to_others(kubeconfig: Path, tmp_path: Path) -> None:
    with dashboard(kubeconfig, tmp_path / "log") as client:
        with ExitStack() as stack:
            answers = [stack.enter_context(client.stream("GET", "/events")) for _ in range(51)]
            assert [answer.status_code for answer in answers] == [200] * 50 + [429]
            assert answers[-1].headers["retry-after"] == "10"
            elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
            with httpx.Client(transport=elsewhere, base_url=client.base_url, cookies=client.cookies) as other:
                assert stack.enter_context(other.stream("GET", "/events")).status_code == 200

        def is_given_back() -> bool:
            with client.stream("GET", "/events") as answer:
                return answer.status_code == 200

        wait_until(is_given_back, "the places are given back", seconds=20)


@pytest.mark.usefixtures("fraud")
def test_a_model_of_a_newer_version_is_a_page_that_says_so(kubeconfig: Path, kube: Kube, tmp_path: Path) -> None:
    status = {"analysis": {"revision": "6f8d", "stable": "5c1a", "metrics": [{"title": "no name any more"}]}}
    kube.merge(MODELDEPLOYMENTS, "fraud", {"status": status}, subresource="status")
    with dashboard(kubeconfig, tmp_path / "log") as client:
        shows(client, "fraud")
        shows(client, "This version of modeldeploy cannot read it (KeyError", "/models/default/fraud")
        with client.stream("GET", "/models/default/fraud/events") as stream:
            assert "upgrade modeldeploy" in next(line for line in stream.iter_lines() if "cannot read" in line)


def test_a_model_that_is_not_there_is_a_page_that_says_so(kubeconfig: Path, tmp_path: Path) -> None:
    with dashboard(kubeconfig, tmp_path / "log") as client:
        for path, status in (("/models/default/none", 404), ("/models/default/%2e%2e", 422), ("/models/A/b", 422)):
            assert client.get(path, headers={"accept": "text/html"}).status_code == status
        assert "There is no ModelDeployment" in shows(client, "no ModelDeployment", "/models/default/none")


def test_a_cluster_without_the_definition_says_what_to_install(tmp_path: Path) -> None:
    with start_sandbox(tmp_path / "bare"), dashboard(tmp_path / "bare" / "kubeconfig", tmp_path / "log") as client:
        shows(client, "The cluster has no ModelDeployments. Install modeldeploy&#39;s chart")


def test_a_definition_of_another_version_says_to_upgrade(tmp_path: Path) -> None:
    with start_sandbox(tmp_path / "newer"):
        kubeconfig = tmp_path / "newer" / "kubeconfig"
        definition = yaml.safe_load((Path(__file__).parents[3] / "crds/modeldeployments.yaml").read_text())
        definition["spec"]["versions"][0]["name"] = "v1"
        with Kube.connect(kubeconfig) as kube:
            kube.apply(CRDS, definition)
        with dashboard(kubeconfig, tmp_path / "log") as client:
            shows(client, "serves ModelDeployments as v1, and this modeldeploy reads v1alpha1")


def test_a_cluster_that_does_not_answer_is_asked_again(kubeconfig: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    with dashboard(tmp_path / "config", tmp_path / "log") as client:
        shows(client, "does not answer")
        shows(client, "It is asked again every few seconds.")


def test_who_may_not_list_is_told_so(kubeconfig: Path, kube: Kube, tmp_path: Path) -> None:
    token = account(kube, "nobody")
    with dashboard(as_user(kubeconfig, tmp_path, token), tmp_path / "log") as client:
        page = shows(client, "you are not allowed to read")
        assert "system:serviceaccount:default:nobody" in page


@pytest.mark.usefixtures("fraud")
def test_in_a_cluster_each_request_acts_as_its_bearer(kubeconfig: Path, kube: Kube, tmp_path: Path) -> None:
    reader, writer, nobody = account(kube, "reader", READ), account(kube, "writer", PATCH), account(kube, "nobody")
    own = as_user(kubeconfig, tmp_path, reader)
    with dashboard(own, tmp_path / "log", "--shared") as client:
        assert "Read-only" in shows(client, "6f8d", "/models/default/fraud")
        path = "/models/default/fraud/actions/pause"
        assert client.post(path, json={}).status_code == 401
        refused = client.post(path, json={}, headers={"authorization": f"Bearer {nobody}"})
        assert refused.status_code == 403
        assert "You are not allowed to do this." in refused.json()["message"]
        other = {"authorization": f"Bearer {writer}", "origin": "https://evil.example"}
        assert client.post(path, json={}, headers=other).status_code == 403
        assert client.post(path, json={}, headers={"authorization": "Bearer none"}).status_code == 401
        assert kube.get(MODELDEPLOYMENTS, "fraud")["spec"]["paused"] is False
        done = client.post(path, json={}, headers={"authorization": f"Bearer {writer}"})
        assert done.json() == {"message": "fraud: paused"}
        assert kube.get(MODELDEPLOYMENTS, "fraud")["spec"]["paused"] is True
        signed_in = client.get("/models/default/fraud", headers={"authorization": f"Bearer {writer}"}).text
        assert 'data-verb="resume"' in signed_in


@pytest.mark.usefixtures("fraud")
def test_a_request_that_cannot_be_done_is_a_sentence(kubeconfig: Path, kube: Kube, tmp_path: Path) -> None:
    with dashboard(kubeconfig, tmp_path / "log") as client:
        shows(client, "fraud")

        def told(verb: str, **body: str) -> tuple[int, str]:
            answer = client.post(f"/models/default/fraud/actions/{verb}", json=body)
            return answer.status_code, answer.json()["message"]

        assert told("dance")[0] == 409
        assert told("retry") == (409, "fraud is Paused: no revision was aborted, so there is none to retry.")
        assert told("promote", state="another state")[1].startswith("fraud has changed since: it is Paused now.")
        assert client.post("/models/default/gone/actions/abort", json={}).status_code == 404
        assert client.post("/models/default/fraud/actions/abort", json={"force": True}).status_code == 422
        port = {"name": "http", "port": 80}
        kube.apply(SERVICES, {**_object("v1", "Service", "fraud"), "spec": {"ports": [port], "selector": {"a": "b"}}})
        answer = client.post("/models/default/fraud/form", json={})
        assert answer.status_code in (502, 503)
        assert answer.json()["message"].endswith(".")


def test_without_a_session_nothing_is_shown(kubeconfig: Path, tmp_path: Path) -> None:
    with dashboard(kubeconfig, tmp_path / "log") as client:
        client.cookies.clear()
        for path in ("/", "/events", "/models/default/fraud", "/openapi.json", "/docs"):
            assert client.get(path).status_code == 401
        assert client.get("/", headers={"host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(["--host", "0.0.0.0"], "add --shared", id="an address that others reach"),
        pytest.param(["-A", "--namespaces", "a"], "give either", id="two choices"),
        pytest.param(["--interval", "soon"], "is no duration", id="no duration"),
        pytest.param(["--interval", "10ms"], "has to be 1s or more", id="too often"),
    ],
)
def test_a_wrong_option_is_refused(run: Any, words: list[str], told: str) -> None:
    done = run("dashboard", *words)
    assert done.code == 64
    assert told in done.err


def test_ctrl_c_ends_it_though_a_page_is_open(kubeconfig: Path, tmp_path: Path) -> None:
    words = ["--kubeconfig", str(kubeconfig), "dashboard", "--no-browser"]
    child = Child("dashboard", [sys.executable, "-m", "modeldeploy", *words], log=tmp_path / "log", env=environment())
    with child:
        link = child.wait_for(r"^The dashboard is at (\S+)$", seconds=30)[1]
        with httpx.Client(follow_redirects=True, trust_env=False) as client:
            client.get(link)
            with client.stream("GET", f"{link.partition('?')[0]}events") as stream:
                lines = stream.iter_lines()
                next(lines)
                os.kill(child.pid, signal.SIGINT)
                for _ in lines:
                    pass
        wait_until(lambda: not child.is_alive(), "it has ended", seconds=20)
        assert child.stop() == 130
    assert child.output().count("\n") <= 2


def test_a_port_that_is_taken_is_named(run: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("dashboard", "--no-browser", "--port", str(port))
    assert done.code == 3
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in done.err
