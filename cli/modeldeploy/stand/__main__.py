"""`make sandbox` and `make sandbox-down`: a stand in the background, known by a pid file.

python -m modeldeploy.stand up      start it, say how to use it, and return
python -m modeldeploy.stand down    end it
python -m modeldeploy.stand serve   be it, until SIGTERM (what `up` leaves running)
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

from modeldeploy.stand.failures import exit_status_of
from modeldeploy.stand.lifecycle import stand
from modeldeploy.stand.process import StartError, wait_until
from modeldeploy.stand.source import checkout


def main(arguments: list[str]) -> int:
    """Run one of the three commands and return the exit status."""
    commands = {"up": up, "down": down, "serve": serve}
    if len(arguments) != 1 or arguments[0] not in commands:
        print(f"usage: python -m modeldeploy.stand {'|'.join(commands)}", file=sys.stderr)
        return 2
    return exit_status_of(lambda: commands[arguments[0]](checkout() / ".sandbox"))


def up(folder: Path) -> int:
    """Start a stand that outlives this process, unless one is up already."""
    folder.mkdir(exist_ok=True)
    if _running(folder) is None:
        (folder / "ready").unlink(missing_ok=True)
        with (folder / "stand.log").open("wb") as log:
            keeper = subprocess.Popen(
                [sys.executable, "-m", "modeldeploy.stand", "serve"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        (folder / "pid").write_text(f"{keeper.pid}\n")
        wait_until(lambda: _is_up(folder, keeper), "the sandbox is up", seconds=60)
    models = folder / "models"
    print("The sandbox is up, with the chart installed in it. End it with: make sandbox-down")
    print(f"export KUBECONFIG={folder / 'kubeconfig'}")
    print(f"export MODELS=file://{models}")
    print(f"export PATH={Path(sys.executable).parent}:$PATH")
    return 0


def down(folder: Path) -> int:
    """End the stand, if one is up."""
    pid = _running(folder)
    if pid is None:
        print("no sandbox is up")
        return 0
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: _running(folder) is None, f"process {pid} has ended", seconds=60)
    (folder / "pid").unlink(missing_ok=True)
    print("the sandbox is down")
    return 0


def serve(folder: Path) -> int:
    """Keep a stand until SIGTERM or SIGINT."""
    over = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        over.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    # Each stand is a new cluster, however the last one ended; models stay where they are.
    shutil.rmtree(folder / "state", ignore_errors=True)
    with stand(folder) as running:
        (folder / "ready").touch()
        while not over.wait(1):
            if not running.sandbox.is_alive():
                raise StartError(f"the sandbox ended by itself:\n{running.sandbox.tail()}")
    return 0


def _is_up(folder: Path, keeper: "subprocess.Popen[bytes]") -> bool:
    if keeper.poll() is not None:
        raise StartError((folder / "stand.log").read_text(errors="replace").strip().removeprefix("error: "))
    return (folder / "ready").exists()


def _running(folder: Path) -> int | None:
    """Process id of the stand in `folder`; a pid that something else took over does not count."""
    try:
        pid = int((folder / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"modeldeploy.stand" in command else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
