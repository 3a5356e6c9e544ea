"""Several processes behind one port: a parent that only forks, passes signals on and waits.

It forks before NumPy or a thread exists, so nothing unsafe is copied. A worker that ends unasked ends
the others, after they have answered what they have; Kubernetes then restarts the container. So does a
parent that is killed: each worker reads from a pipe that only the parent holds open.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

log = logging.getLogger(__name__)


def supervise(count: int, work: Callable[[int], int]) -> int:
    """Run `work(number)` in so many processes; the exit code of the first that failed, else 0."""
    alive = os.pipe()
    pids = {_fork(number, work, alive) for number in range(count)}
    os.close(alive[0])

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


def _fork(number: int, work: Callable[[int], int], alive: tuple[int, int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    os.close(alive[1])
    threading.Thread(target=end_with_parent, args=(alive[0],), name="parent", daemon=True).start()
    try:
        code = work(number)
    except BaseException:
        log.exception("worker failed")
    logging.shutdown()
    # Not sys.exit: the parent's clean-up is not the child's.
    os._exit(code)


def end_with_parent(alive: int) -> None:
    """Wait until the parent's end of the pipe is closed, which the kernel does however it ends; then drain."""
    os.read(alive, 1)
    log.info("the parent has ended")
    os.kill(os.getpid(), signal.SIGTERM)


def _signal_all(pids: set[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _exit_code(status: int) -> int:
    """As a shell has it: 128 and the signal's number for a process that was killed."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
