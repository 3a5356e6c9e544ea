"""Child processes of the stand: they say when they are ready, and never outlive their parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

from modeldeploy.stand import Child, StartError


def a_child(folder: Path, code: str) -> Child:
    return Child("child", [sys.executable, "-c", code], log=folder / "log", env=os.environ)


def test_it_waits_for_what_the_child_says(tmp_path: Path) -> None:
    with a_child(tmp_path, "import time; print('port 4711', flush=True); time.sleep(60)") as child:
        assert child.wait_for(r"port (\d+)", seconds=20)[1] == "4711"
    assert not child.is_alive()


def test_a_child_that_ends_is_told_with_its_last_lines(tmp_path: Path) -> None:
    with (
        a_child(tmp_path, "raise SystemExit('no space left')") as child,
        pytest.raises(StartError, match=r"(?s)ended with 1.*no space left"),
    ):
        child.wait_for("ready", seconds=20)


def test_a_silent_child_is_told(tmp_path: Path) -> None:
    with (
        a_child(tmp_path, "import time; time.sleep(60)") as child,
        pytest.raises(StartError, match="did not print 'ready'"),
    ):
        child.wait_for("ready", seconds=0.1)


def test_a_child_that_ignores_sigterm_is_ended_all_the_same(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    child = a_child(tmp_path, code)
    child.wait_for("on", seconds=20)
    assert child.stop(grace=0.1) == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise to end children is Linux' own")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from modeldeploy.stand import Child\n"
        "sleeper = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        f"child = Child('child', sleeper, log=Path({str(tmp_path / 'log')!r}), env=os.environ)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    wait_until(lambda: not _runs(pid), "the child has ended", seconds=10)


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
