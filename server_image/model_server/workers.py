"""Several processes behind one port: a parent that only forks, passes signals on and waits.

It forks before NumPy or a thread exists, so nothing unsafe is copied. A worker that ends unasked ends
the others, after they have answered what they have; Kubernetes then restarts the container.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from types import FrameType

log = logging.getLogger(__name__)


def supervise(count: int, work: Callable[[int], int]) -> int:
    """Run `work(number)` in so many processes; the exit code of the first that failed, else 0."""
    pids = {_fork(number, work) for number in range(count)}

    def pass_on(number: int, frame: FrameType | None) -> None:
        _signal_all(pids, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, pass_on)
    first = 0
    while pids:
        pid, status = os.wait()
        pids.discard(pid)
        code = _exit_code(status)
        log.info("worker ended", extra={"pid": pid, "exit_code": code})
        if code and not first:
            first = code
            _signal_all(pids, signal.SIGTERM)
    return first


def _fork(number: int, work: Callable[[int], int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = work(number)
    except BaseException:
        log.exception("worker failed")
    logging.shutdown()
    # Not sys.exit: the parent's clean-up is not the child's.
    os._exit(code)


def _signal_all(pids: set[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _exit_code(status: int) -> int:
    """As a shell has it: 128 and the signal's number for a process that was killed."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
