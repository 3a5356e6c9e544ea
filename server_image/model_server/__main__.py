"""`python -m model_server`: settings in, a served model or a reason and an exit code out."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap
from pathlib import Path

from model_server.errors import RestartNeeded, StartError
from model_server.logs import configure
from model_server.settings import PREFIX, Settings, read_settings
from model_server.shared_values import SharedValues
from model_server.sockets import listen, listen_comparison
from model_server.termination import give_up, termination_file
from model_server.workers import supervise

log = logging.getLogger("model_server")


def main() -> int:
    """Serve one model until told to stop: 0 after a drain, else a code of sysexits.h."""
    termination = termination_file(os.environ)
    try:
        settings = read_settings(os.environ)
        configure(settings.log_level, _fixed_fields(settings))
        _limit_threads(settings.threads)
        with (
            listen(settings) as listener,
            listen_comparison(settings) as comparison,
            _work_folder(settings.model_dir) as folder,
        ):
            log.info("listening", extra={"host": settings.host, "port": listener.getsockname()[1]})
            memory = mmap(-1, SharedValues.size(settings.workers))

            def work(worker: int) -> int:
                return _serve(settings, listener, comparison, folder, memory, worker)

            return work(0) if settings.workers == 1 else supervise(settings.workers, work)
    except StartError as error:
        return give_up(error, termination)


def _serve(
    settings: Settings,
    listener: socket.socket,
    comparison: socket.socket | None,
    folder: Path,
    memory: mmap,
    worker: int,
) -> int:
    # Imported only now: NumPy reads the thread limits when it is imported, and a parent of workers needs neither.
    import uvloop

    from model_server.server import WorkerContext, run
    from model_server.supervision import follow_parent

    if settings.supervisor_fd:
        follow_parent(settings.supervisor_fd)
    context = WorkerContext(listener=listener, comparison=comparison, folder=folder, memory=memory, worker=worker)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings, os.environ, context))
    except StartError as error:
        return give_up(error, settings.termination_log)
    except RestartNeeded as restart:
        log.info("starting again: %s", restart)
        listener.close()
        os.execve(sys.executable, [sys.executable, "-P", "-m", "model_server"], restart.environ)  # noqa: S606 - itself
    log.info("stopped")
    return 0


@contextmanager
def _work_folder(given: Path | None) -> Iterator[Path]:
    """A folder that holds nothing of an earlier process: its downloads may be cut short."""
    if given is None:
        with tempfile.TemporaryDirectory(prefix="model-server-") as temporary:
            yield Path(temporary)
        return
    folder = given / "package"
    shutil.rmtree(folder, ignore_errors=True)
    yield folder


def _fixed_fields(settings: Settings) -> dict[str, str]:
    return {"model": settings.name, "namespace": settings.namespace, "revision": settings.revision}


def _limit_threads(count: int) -> None:
    """One call of a model may use so many threads; more than the pod's CPUs only slow it down."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(count))


def _evaluate(arguments: list[str]) -> int:
    """Try the model on labelled data instead of serving it: the same image, with other arguments."""
    _limit_threads(1)
    from model_server.evaluate import main as evaluate

    return evaluate(arguments)


def _calibrate(arguments: list[str]) -> int:
    """Measure on labelled data what the model's probabilities mean, instead of serving it."""
    _limit_threads(1)
    from model_server.calibrate import main as calibrate

    return calibrate(arguments)


def _labels(arguments: list[str]) -> int:
    """Join labels to the input log instead of serving: the same image, with other arguments."""
    from model_server.labels.__main__ import main as labels

    return labels(arguments)


def _batch(arguments: list[str]) -> int:
    """Predict a shard of a batch instead of serving: the same image, with other arguments."""
    _limit_threads(int(os.environ.get(f"{PREFIX}THREADS") or 1))
    from model_server.batch.command import main as batch

    return batch(arguments)


def _edge(arguments: list[str]) -> int:
    """Serve without a cluster: start servers, one for each package that comes to the URI, and judge the next one."""
    from model_server.edge.command import main as edge

    return edge(arguments)


def _pool(arguments: list[str]) -> int:
    """Serve the models of a list instead of one: the same image, with other arguments."""
    _limit_threads(int(os.environ.get(f"{PREFIX}THREADS") or 1))
    from model_server.pool.command import main as pool

    return pool(os.environ)


def _pool_worker(arguments: list[str]) -> int:
    """Hold models for the pool that has started this process."""
    from model_server.pool.worker_command import main as worker

    return worker(arguments)


def _meter(arguments: list[str]) -> int:
    """Count and pass on the requests of a server that is not ours."""
    # Workers are forked when NumPy is there: it must not have threads.
    _limit_threads(1)
    from model_server.meter.command import main as meter

    return meter(os.environ)


def _fetch(arguments: list[str]) -> int:
    """Bring the artifact of a server that is not ours, and end."""
    from model_server.fetch import main as fetch

    return fetch(arguments, os.environ)


_COMMANDS = {
    "evaluate": _evaluate,
    "calibrate": _calibrate,
    "labels": _labels,
    "batch": _batch,
    "edge": _edge,
    "pool": _pool,
    "meter": _meter,
    "fetch": _fetch,
    "pool-worker": _pool_worker,
}

if __name__ == "__main__":
    command = _COMMANDS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    code = command(sys.argv[2:]) if command else main()
    logging.shutdown()
    sys.stdout.flush()
    # Not sys.exit: a call of the model that never returns would hold the process for ever.
    os._exit(code)
