"""The command line against a real API server: what it shows, what it writes, how it ends."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import http_servers
import pytest
import typer.main
import yaml
from waiting import wait_until

from modeldeploy.app import build
from modeldeploy.commands import act
from modeldeploy.kube import DEPLOYMENTS, MODELDEPLOYMENTS, Kube

Run = Callable[..., Any]  # the fixture `run`: how a command ended

STATUS = {
    "observedGeneration": 1,
    "phase": "Paused",
    "message": "step 2/3: 25 % on 6f8d, paused until promoted",
    "stableRevision": "5c1a",
    "canaryRevision": "6f8d",
    "step": "2/3",
    "currentStepIndex": 1,
    "weights": {"desired": 25},
    "history": [{"revision": "5c1a", "result": "Promoted", "at": "2026-05-01T11:00:00Z"}],
}


@pytest.fixture
def kube(kubeconfig: Path) -> Iterator[Kube]:
    with Kube.connect(kubeconfig) as connection:
        yield connection


@pytest.fixture
def fraud(kube: Kube) -> Iterator[str]:
    """A ModelDeployment in the middle of a rollout; no operator runs here, the status is set by hand."""
    manifest = {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "fraud"},
        "spec": {"model": {"storageUri": "s3://models/fraud/7"}},
    }
    kube.apply(MODELDEPLOYMENTS, manifest)
    set_status(kube, STATUS)
    yield "fraud"
    kube.delete(MODELDEPLOYMENTS, "fraud")


def set_status(kube: Kube, status: dict[str, Any]) -> None:
    kube.merge(MODELDEPLOYMENTS, "fraud", {"status": status}, subresource="status")


def annotations(kube: Kube) -> dict[str, str]:
    found = kube.get(MODELDEPLOYMENTS, "fraud")["metadata"].get("annotations", {})
    return {name.removeprefix("modeldeploy.dev/"): value for name, value in found.items()}


def test_a_resource_that_named_no_strategy_can_be_given_one(kube: Kube) -> None:
    # A default that is stored would stay beside what is applied later, and two strategies are refused.
    spec = {"model": {"storageUri": "s3://models/plain/7"}, "replicas": 2}
    plain = {"apiVersion": "modeldeploy.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "plain"}}
    kube.apply(MODELDEPLOYMENTS, {**plain, "spec": spec})
    for strategy in ({"canary": {"maxSurge": 0, "maxUnavailable": 1}}, {"blueGreen": {}}):
        given = kube.apply(MODELDEPLOYMENTS, {**plain, "spec": {**spec, "strategy": strategy}})
        assert given["spec"]["strategy"].keys() == strategy.keys()
    assert "strategy" not in kube.apply(MODELDEPLOYMENTS, {**plain, "spec": spec})["spec"]
    kube.delete(MODELDEPLOYMENTS, "plain")


def test_get_shows_the_rollout(run: Run, fraud: str) -> None:
    done = run("get")
    assert done.code == 0, done.err
    for text in ("fraud", "Paused", "2/3", "25%", "5c1a", "6f8d"):
        assert text in done.out
    assert not [line for line in done.out.splitlines() if line.endswith(" ")]


@pytest.mark.parametrize("words", [["get"], ["status"], ["history"], ["watch", "--until-over"]], ids=" ".join)
def test_nobodys_message_steers_the_terminal(run: Run, kube: Kube, fraud: str, words: list[str]) -> None:
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "X",
        "message": "",
        "lastTransitionTime": "2026-05-01T11:00:00Z",
    }
    evil = "\x1b[2J\x1b]0;title\x07bye\x9b31m"
    past = [{"revision": "5c1a", "result": "Promoted", "message": evil}]
    set_status(kube, {"phase": "Healthy", "message": evil, "history": past, "conditions": [ready]})
    told = run(words[0], fraud, *words[1:]).out
    assert "^[[2J^[]0;title^Gbye\\x9b31m" in told
    assert not {"\x1b", "\x07", "\x9b"} & set(told)


def test_a_history_that_has_not_begun_is_told(run: Run, kube: Kube, fraud: str) -> None:
    set_status(kube, {"history": []})
    done = run("history", fraud)
    assert (done.code, done.out) == (0, "")
    assert "fraud has no history yet" in done.err


@pytest.mark.parametrize("words", [["get", "-A"], ["-n", "nowhere", "get", "-A"]], ids=["alone", "wins over -n"])
def test_get_shows_all_namespaces(run: Run, fraud: str, words: list[str]) -> None:
    done = run(*words)
    assert done.code == 0, done.err
    head, row = done.out.splitlines()
    assert head.split()[:2] == ["NAMESPACE", "NAME"]
    assert row.split()[:2] == ["default", "fraud"]


def test_every_command_on_a_cluster_takes_the_connection_after_its_name() -> None:
    application: Any = typer.main.get_command(build())
    for name, command in application.commands.items():
        options = {option for one in command.params for option in one.opts}
        assert ({"--kubeconfig", "--context", "--namespace", "-n"} <= options) is (
            name not in ("lint", "package", "bake", "bom", "import", "serve")
        ), name


@pytest.mark.parametrize(
    ("words", "annotation", "value"),
    [
        pytest.param(["promote"], "promote", "6f8d@1/", id="promote"),
        pytest.param(["promote", "--full"], "promote-full", "6f8d@", id="promote --full"),
        pytest.param(["abort"], "abort", "6f8d@", id="abort"),
    ],
)
def test_a_request_is_written_as_a_token(
    run: Run, kube: Kube, fraud: str, words: list[str], annotation: str, value: str
) -> None:
    done = run(words[0], fraud, *words[1:], "--no-wait")
    assert done.code == 0, done.err
    assert annotations(kube)[annotation].startswith(value)


def test_undo_goes_back_to_what_is_kept_and_to_nothing_else(run: Run, kube: Kube, fraud: str) -> None:
    past = [{"revision": name, "result": "Promoted", "at": "2026-05-01T11:00:00Z"} for name in ("6f8d", "5c1a", "old")]
    set_status(kube, {"phase": "Healthy", "stableRevision": "6f8d", "canaryRevision": None, "history": past})
    kept = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "fraud-5c1a",
            "labels": {"modeldeploy.dev/name": "fraud", "modeldeploy.dev/revision": "5c1a"},
            "annotations": {"modeldeploy.dev/revision-spec": "{}"},
        },
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "x"}},
            "template": {
                "metadata": {"labels": {"app": "x"}},
                "spec": {"containers": [{"name": "server", "image": "x"}]},
            },
        },
    }
    done = run("undo", fraud)
    assert (done.code, annotations(kube)) == (3, {})
    assert "revision 5c1a of fraud is no longer kept (spec.revisionHistoryLimit); kept are: none" in done.err
    kube.apply(DEPLOYMENTS, kept)
    assert "kept are: 5c1a" in run("undo", fraud, "--to-revision", "old").err
    assert run("undo", fraud, "--no-wait").code == 0
    assert annotations(kube)["undo"].startswith("5c1a@")
    kube.delete(DEPLOYMENTS, "fraud-5c1a")


def test_refresh_gives_its_annotation_a_new_value(run: Run, kube: Kube, fraud: str) -> None:
    assert run("refresh", fraud).code == 0
    assert annotations(kube)["refresh"].isdigit()
    assert run("refresh", "nobody").code == 3


def test_labels_of_this_machine_are_refused_with_what_to_do(run: Run, fraud: str) -> None:
    done = run("labels", fraud, "--labels", "labels.csv")
    assert done.code == 3
    assert "--labels labels.csv cannot be read by a Job of the cluster" in done.err
    assert "is no storage: name the log with --log URI" in run("labels", fraud, "--labels", "s3://a/b.csv").err


def test_pause_and_resume_are_written_to_the_spec(run: Run, kube: Kube, fraud: str) -> None:
    assert run("pause", fraud).code == 0
    assert kube.get(MODELDEPLOYMENTS, fraud)["spec"]["paused"] is True
    assert run("resume", fraud).code == 0
    assert kube.get(MODELDEPLOYMENTS, fraud)["spec"]["paused"] is False


@pytest.mark.parametrize(
    ("status", "code"),
    [
        pytest.param({"phase": "Healthy", "ready": "True"}, 0, id="healthy ends with 0"),
        pytest.param({"phase": "Degraded", "ready": "False"}, 1, id="degraded ends with 1"),
        pytest.param({"phase": "Progressing", "ready": "False"}, 2, id="not over in time ends with 2"),
    ],
)
def test_status_tells_by_its_exit_status(run: Run, kube: Kube, fraud: str, status: dict[str, str], code: int) -> None:
    ready = {
        "type": "Ready",
        "status": status["ready"],
        "reason": "X",
        "message": "",
        "lastTransitionTime": "2026-05-01T11:00:00Z",
    }
    set_status(kube, {"phase": status["phase"], "conditions": [ready]})
    assert run("status", fraud, "--wait", "--timeout", "300ms").code == code


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(["get", "frod"], 3, "there are: fraud", id="an unknown name lists the known"),
        pytest.param(["status", ""], 3, "there are: fraud", id="an empty name is no name"),
        pytest.param(["get", "../pods"], 3, "there are: fraud", id="a path is no name"),
        pytest.param(["retry", "fraud"], 3, "no revision was aborted", id="nothing to retry"),
        pytest.param(["undo", "fraud"], 3, "abort it instead", id="undo in a rollout"),
        pytest.param(["status", "fraud", "--timeout", "soon"], 64, "as in 90s or 1h30m", id="a wrong duration"),
        pytest.param(["status", "fraud", "--timeout", "9" * 20 + "d"], 64, "longer than time lasts", id="for ever"),
        pytest.param(["watch", "fraud", "--interval", "0s"], 64, "as in 1s", id="a watch without a breath"),
        pytest.param(["promote"], 64, "NAME", id="a missing name"),
        pytest.param(["-n", "nowhere", "get", "fraud"], 3, "in namespace nowhere", id="another namespace"),
        pytest.param(["get", "fraud", "-n", "nowhere"], 3, "in namespace nowhere", id="another namespace, named last"),
        pytest.param(
            ["-n", "default", "get", "fraud", "-n", "nowhere"],
            3,
            "in namespace nowhere",
            id="of two namespaces the last",
        ),
        pytest.param(["get", "--context", "elsewhere"], 3, "no entry 'elsewhere'", id="another context, named last"),
        pytest.param(["get", "--kubeconfig", "/none"], 3, "/none does not exist", id="another file, named last"),
        pytest.param(["get", "fraud", "-A"], 64, "leave NAME or --all-namespaces out", id="one name of all namespaces"),
    ],
)
def test_what_cannot_be_is_told(run: Run, fraud: str, words: list[str], code: int, said: str) -> None:
    done = run(*words)
    assert done.code == code, done.out + done.err
    assert said in done.err


def test_watch_ends_when_the_rollout_is_over(run: Run, kube: Kube, fraud: str) -> None:
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "",
        "lastTransitionTime": "2026-05-01T11:00:00Z",
    }
    set_status(kube, {"phase": "Healthy", "message": "revision 6f8d serves", "conditions": [ready]})
    done = run("watch", fraud, "--until-over", "--interval", "50ms")
    assert done.code == 0, done.err
    assert "revision 6f8d serves" in done.out


def pointing_at(folder: Path, server: str) -> Path:
    config = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": ""}}],
        "clusters": [{"name": "x", "cluster": {"server": server}}],
    }
    file = folder / "config"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.fixture
def stranger() -> Iterator[Callable[[int, str, str], str]]:
    """Starts a server that answers everything in one way; gives its URL."""
    with ExitStack() as stack:

        def start(code: int, media_type: str, body: str) -> str:
            class Answer(http_servers.Handler):
                def do_GET(self) -> None:
                    self.answer(body.encode(), code, content_type=media_type)

            return f"http://{stack.enter_context(http_servers.served(Answer))}"

        yield start


@pytest.mark.parametrize("words", [["get"], ["status", "fraud"]], ids=["all", "one"])
@pytest.mark.parametrize(
    ("code", "media_type", "body", "said"),
    [
        pytest.param(
            200, "text/html", "<h1>log in</h1>", "answers with 200 and no object of Kubernetes", id="a web page"
        ),
        pytest.param(302, "text/html", "", "answers with 302 and no object of Kubernetes", id="a redirect"),
        pytest.param(200, "application/json", "[]", "answers with 200 and no object of Kubernetes", id="other JSON"),
        pytest.param(
            404,
            "text/plain",
            "404 page not found\n",
            "chart in the cluster: helm install modeldeploy",
            id="a cluster without us",
        ),
        pytest.param(
            403,
            "text/plain",
            "RBAC: access denied",
            " on modeldeployments.modeldeploy.dev in namespace default is not allowed to this user: 403 Forbidden",
            id="a proxy that allows nothing",
        ),
        pytest.param(
            503, "text/html", "<h1>\nbusy</h1>", "503 Service Unavailable: <h1> busy</h1>", id="a proxy's error"
        ),
        pytest.param(
            401,
            "application/json",
            '{"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "Unauthorized"}',
            "Unauthorized: the API server does not take the kubeconfig's credentials",
            id="credentials that are over",
        ),
    ],
)
def test_an_answer_that_is_none_is_told_in_one_line(
    run: Run,
    tmp_path: Path,
    stranger: Callable[[int, str, str], str],
    words: list[str],
    code: int,
    media_type: str,
    body: str,
    said: str,
) -> None:
    done = run(*words, kubeconfig=pointing_at(tmp_path, stranger(code, media_type, body)))
    assert done.code == 3
    assert said in done.err


def test_a_server_that_does_not_answer_is_named(run: Run, tmp_path: Path) -> None:
    done = run("get", kubeconfig=pointing_at(tmp_path, "http://127.0.0.1:9/as/s3cret"))
    assert done.code == 3
    assert "http://127.0.0.1:9 does not answer" in done.err
    assert "s3cret" not in done.err


@pytest.mark.parametrize(
    ("is_accepted", "code"), [pytest.param(True, 0, id="accepted"), pytest.param(False, 3, id="refused")]
)
def test_a_request_waits_for_the_operators_answer(
    run: Run, kube: Kube, fraud: str, is_accepted: bool, code: int
) -> None:
    def operator() -> None:
        """Answer the request as soon as it is there."""
        value = wait_until(lambda: annotations(kube).get("abort"), "the request is there")
        answer = {"value": value, "accepted": is_accepted, "message": "as the operator says"}
        set_status(kube, {"requests": {"abort": answer}})

    answering = Thread(target=operator)
    answering.start()
    done = run("abort", fraud)
    answering.join()
    assert (done.code, "fraud: as the operator says" in done.out + done.err) == (code, True)


def test_a_request_without_an_answer_in_time_is_not_over(run: Run, fraud: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(act, "ANSWER_TIMEOUT", 0.3)
    done = run("abort", fraud)
    assert done.code == 2
    assert "the operator has not answered" in done.err


OLD = {"image": "modeldeploy/server:1", "currentImage": "modeldeploy/server:2", "outdated": True}


class TestOutdated:
    def test_an_outdated_model_is_listed_with_both_images(self, run: Run, kube: Kube, fraud: str) -> None:
        set_status(kube, {"server": OLD})
        done = run("outdated")
        assert done.code == 1
        header, row = done.out.splitlines()
        assert header.split() == ["NAME", "REVISION", "IMAGE", "CURRENT", "IMAGE", "OUTDATED"]
        assert row.split() == ["fraud", "5c1a", "modeldeploy/server:1", "modeldeploy/server:2", "image"]
        assert "1 of 1 outdated" in done.err
        assert "modeldeploy refresh NAME" in done.err

    def test_an_older_pod_template_is_named(self, run: Run, kube: Kube, fraud: str) -> None:
        set_status(kube, {"server": {**OLD, "image": "modeldeploy/server:2"}})
        done = run("outdated", "-A")
        assert done.code == 1
        assert done.out.splitlines()[1].split()[0] == "default"
        assert done.out.splitlines()[1].endswith("pod template")

    def test_none_is_outdated(self, run: Run, kube: Kube, fraud: str) -> None:
        set_status(kube, {"server": {**OLD, "outdated": False}})
        done = run("outdated")
        assert (done.code, done.out) == (0, "")
        assert "none of 1 outdated" in done.err

    def test_silence_is_not_taken_for_current(self, run: Run, fraud: str) -> None:
        done = run("outdated")
        assert (done.code, done.out) == (2, "")
        assert "default/fraud: the operator has not reported its server image" in done.err

    def test_a_model_that_is_not_live_yet_has_nothing_to_compare(self, run: Run, kube: Kube, fraud: str) -> None:
        set_status(kube, {"phase": "Pending"})
        assert run("outdated").code == 0
        set_status(kube, {"phase": "Progressing", "stableRevision": None})
        assert run("outdated").code == 0

    def test_another_namespace_is_another_list(self, run: Run, kube: Kube, fraud: str) -> None:
        set_status(kube, {"server": OLD})
        assert run("outdated", "-n", "nowhere").code == 0
