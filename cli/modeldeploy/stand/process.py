"""Child processes with a log file, which never outlive their parent, and waiting. Used by all of `stand`."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

Seen = TypeVar("Seen")

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: between fork and exec a child may only call, not load.
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


class StartError(Exception):
    """A child process ended, or did not say what it should have said; the message holds its last lines."""


class Child:
    """A running `command` whose output goes to `log`. Stop it, or use it in `with`."""

    def __init__(self, name: str, command: Sequence[str], *, log: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=dict(env),
                start_new_session=True,  # Ctrl-C in the terminal is ours: children are stopped in order
                preexec_fn=_end_with_parent,
            )

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def wait_for(self, pattern: str, *, seconds: float) -> re.Match[str]:
        """Wait until the output matches `pattern`. Raises `StartError` when it ends or time is over."""
        deadline = time.monotonic() + seconds
        while True:
            alive = self.is_alive()
            found = re.search(pattern, self.output(), re.MULTILINE)
            if found:
                return found
            if not alive:
                raise StartError(f"{self.name} ended with {self._process.returncode}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} did not print {pattern!r} in {seconds:g} s:\n{self.tail()}")
            time.sleep(0.02)

    def _last_words(self) -> str:
        """Return the line by which a program says why it ended, else the last lines of whatever it printed."""
        *_, last = self.tail().splitlines() or [""]
        return last.removeprefix("error: ") if last.startswith("error: ") else f"\n{self.tail()}"

    def output(self) -> str:
        """Everything it printed so far."""
        return self.log.read_text(errors="replace")

    def tail(self, lines: int = 40) -> str:
        """The last lines it printed."""
        return "\n".join(self.output().splitlines()[-lines:])

    def stop(self, *, grace: float = 30) -> int:
        """Ask it to end, insist after `grace` seconds, and return its exit status."""
        if self.is_alive():
            self._process.terminate()
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def _end_with_parent() -> None:
    """Have Linux end this child when its parent is gone, however that came about."""
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM)


def environment() -> dict[str, str]:
    """This environment, with the virtual environment's programs first and no cluster named."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    env = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
    env.pop("KUBECONFIG", None)
    return env


def find_process(program: str, variable: str) -> int | None:
    """Process id of a running `program` (a part of its command line) with `variable` in its environment (Linux)."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (
                program.encode() in (folder / "cmdline").read_bytes()
                and variable.encode() in (folder / "environ").read_bytes()
            ):
                return int(folder.name)
        except OSError:  # it ended meanwhile, or is not ours to see
            continue
    return None


def wait_until(look: Callable[[], Seen | None], what: str, *, seconds: float) -> Seen:
    """Call `look` until its result is true, and return the result. Raises `TimeoutError`."""
    deadline = time.monotonic() + seconds
    while True:
        result = look()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain until {what}")
        time.sleep(0.1)
