"""What keeps the sandbox or one of its parts from starting is told in one line, without a traceback."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import http_servers
import pytest

KUBECONFIG = """
current-context: x
contexts: [{name: x, context: {cluster: x, user: x}}]
clusters: [{name: x, cluster: {server: "http://127.0.0.1:PORT/as/s3cret"}}]
users: [{name: x, user: {token: s3cret}}]
"""


def errors_of(*words: str | Path) -> str:
    """Run the sandbox, which has to end by itself, and return what it says besides what it always says."""
    done = subprocess.run([sys.executable, "-m", "model_sandbox", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    return done.stderr


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another server listens on: one that answers 404 to everything."""
    with http_servers.served(NotFound) as host:
        yield int(host.rpartition(":")[2])


class NotFound(http_servers.Handler):
    def do_GET(self) -> None:
        self.send_error(404)


@pytest.mark.parametrize("command", ["up", "apiserver"])
def test_a_port_in_use(taken: int, command: str) -> None:
    said = errors_of(command, "--port", str(taken))
    assert said == f"error: cannot listen on 127.0.0.1:{taken}: Address already in use\n"


def test_a_port_that_is_none() -> None:
    assert "'99999': a port is a number from 1 to 65535" in errors_of("up", "--port", "99999")


def test_a_state_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert (
        errors_of("up", "--state", tmp_path / "file") == f"error: cannot use the folder {tmp_path}/file: File exists\n"
    )


@pytest.mark.parametrize("name", ["credentials.json", "objects.db"])
def test_a_state_that_is_not_the_sandboxs(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{not ours")
    said = errors_of("up", "--state", tmp_path)
    assert said.startswith(f"error: cannot use the state in {tmp_path}: ")
    assert said.count("\n") == 1


def test_a_kubeconfig_that_cannot_be_written(tmp_path: Path) -> None:
    said = errors_of("apiserver", "--kubeconfig", tmp_path)
    assert said == f"error: cannot use {tmp_path}: Is a directory\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(None, "error: cannot read {}: No such file or directory", id="absent"),
        pytest.param("a: [", "error: the kubeconfig {} is not YAML: ", id="half a list"),
        pytest.param("[]", "error: cannot use the kubeconfig: ", id="a list"),
        pytest.param("text", "error: cannot use the kubeconfig: ", id="a text"),
        pytest.param(KUBECONFIG.replace("clusters", "others"), "error: the kubeconfig {} lacks 'x'", id="no cluster"),
    ],
)
def test_a_kubeconfig_that_leads_nowhere(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "config"
    if text is not None:
        file.write_text(text)
    told = errors_of("scheduler", "--kubeconfig", file)
    assert told.startswith(said.format(file))
    assert told.count("\n") == 1


@pytest.mark.parametrize("part", ["controllers", "scheduler", "proxy", "gateway", "node"])
def test_an_api_server_that_is_away(tmp_path: Path, part: str) -> None:
    file = tmp_path / "config"
    file.write_text(KUBECONFIG.replace("PORT", "9"))
    said = errors_of(part, "--kubeconfig", file)
    assert said == "error: the API server http://127.0.0.1:9 does not answer: Connection refused\n"


def test_a_server_that_is_no_api_server(tmp_path: Path, taken: int) -> None:
    file = tmp_path / "config"
    file.write_text(KUBECONFIG.replace("PORT", str(taken)))
    assert errors_of("node", "--kubeconfig", file) == f"error: http://127.0.0.1:{taken} answers, but is no API server\n"
