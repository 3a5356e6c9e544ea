"""The demo ends cleanly whatever happens to it. That it holds what it promises, it checks itself: `make demo`."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import wait_until


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("interrupt", "moment"),
    [
        pytest.param(signal.SIGINT, "get mdep", id="Ctrl-C while pods start"),
        pytest.param(signal.SIGTERM, "model_sandbox up", id="SIGTERM while the sandbox starts"),
    ],
)
def test_an_interrupted_demo_leaves_no_process_and_no_file(
    tmp_path: Path, interrupt: signal.Signals, moment: str
) -> None:
    told = tmp_path / "told"
    with told.open("wb") as output:
        demo = subprocess.Popen(
            [sys.executable, "-m", "modeldeploy.demo"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        try:
            wait_until(lambda: moment in told.read_text(), f"the demo says {moment!r}", seconds=60)
            demo.send_signal(interrupt)
            status = demo.wait(60)
        finally:
            demo.kill()
            demo.wait()
    assert status == 130, told.read_text()
    assert not list(tmp_path.glob("modeldeploy-demo-*"))
    wait_until(lambda: not list(processes_that_name(str(tmp_path))), "no process is left", seconds=20)


def processes_that_name(folder: str) -> Iterator[str]:
    """Command lines of processes that were told of `folder`, in their arguments or environment."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            known = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if folder.encode() in known and int(process.name) != os.getpid():
            yield known.decode(errors="replace")
