"""What the tests of the command line share: a sandbox, a TLS front before it, and a way to run commands."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from tls_front import Front, front

from modeldeploy.__main__ import main
from modeldeploy.stand import install_crd, start_sandbox

Run = Callable[..., "Done"]


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sandbox")
    with start_sandbox(folder):
        install_crd(folder / "kubeconfig")
        yield folder / "kubeconfig"


@dataclass(frozen=True)
class Done:
    """How a run of the command line ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line as `modeldeploy WORDS...` would, in this process."""

    def call(*words: str, kubeconfig: Path | None = kubeconfig) -> Done:
        where = ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
        monkeypatch.setattr(sys, "argv", ["modeldeploy", *where, *words])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return Done(int(ended.value.code or 0), told.out, " ".join(told.err.replace("│", " ").split()))

    return call


@pytest.fixture(scope="module")
def server(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """The sandbox's API server behind TLS."""
    config = yaml.safe_load(kubeconfig.read_text())
    url, token = config["clusters"][0]["cluster"]["server"], config["users"][0]["user"]["token"]
    with front(tmp_path_factory.mktemp("front"), url, token) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_asked(request: pytest.FixtureRequest) -> None:
    """Each test begins with a front that accepts nobody and was asked nothing."""
    if "server" in request.fixturenames:
        running: Front = request.getfixturevalue("server")
        for record in (running.accepts, running.asked, running.users):
            record.clear()
