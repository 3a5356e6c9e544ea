"""A stand that does not start reports the reason in one line."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldeploy.kube import Kube
from modeldeploy.stand import Child, start_sandbox
from modeldeploy.stand.failures import INTERRUPTED, exit_status_of


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_in_use(tmp_path: Path, taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    def start() -> int:
        start_sandbox(tmp_path, "--port", str(taken))
        return 0

    assert exit_status_of(start) == 1
    said = f"error: sandbox ended with 1: cannot listen on 127.0.0.1:{taken}: Address already in use\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("kubeconfig", "said"),
    [
        pytest.param("absent", "error: {}/absent does not exist; ", id="a kubeconfig that is not there"),
        pytest.param(".", "error: {} cannot be read: Is a directory\n", id="a kubeconfig that cannot be read"),
    ],
)
def test_no_way_to_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str], kubeconfig: str, said: str) -> None:
    def connect() -> int:
        Kube.connect(tmp_path / kubeconfig)
        return 0

    assert exit_status_of(connect) == 1
    assert capsys.readouterr().err.startswith(said.format(tmp_path))


def test_a_file_in_the_place_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stand").touch()

    def start() -> int:
        start_sandbox(tmp_path / "stand")
        return 0

    assert exit_status_of(start) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/stand: File exists\n"


def test_a_child_without_a_line_of_its_own_is_told_with_its_last_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def start() -> int:
        with Child("child", ["sh", "-c", "echo one; echo two; exit 3"], log=tmp_path / "log", env=os.environ) as child:
            child.wait_for("ready", seconds=20)
        return 0

    assert exit_status_of(start) == 1
    assert capsys.readouterr().err == "error: child ended with 3: \none\ntwo\n"


def test_ctrl_c_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert exit_status_of(interrupted) == INTERRUPTED
    assert capsys.readouterr().err == ""


def test_an_error_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_status_of(lambda: 1 // 0)
