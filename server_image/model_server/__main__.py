"""`python -m model_server`: settings in, a served model or a reason and an exit code out."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

from model_server.errors import StartError
from model_server.logs import configure
from model_server.settings import PREFIX, Settings, read_settings
from model_server.termination import exit_code, write_termination

log = logging.getLogger("model_server")


def main() -> int:
    """Serve one model until told to stop: 0 after a drain, else a code of sysexits.h."""
    termination_log = Path(
        os.environ.get(f"{PREFIX}TERMINATION_LOG") or Settings.model_fields["termination_log"].default
    )
    try:
        settings = read_settings(os.environ)
        configure(settings.log_level, _fixed_fields(settings))
        _limit_threads(settings.threads)
        _serve(settings)
    except StartError as error:
        if not logging.root.handlers:
            configure("info", {})
        log.error("%s: %s", error.reason, error.message, extra={"hint": error.hint, "permanent": error.permanent})
        write_termination(error, termination_log)
        return exit_code(error)
    log.info("stopped")
    return 0


def _serve(settings: Settings) -> None:
    # Imported only now, because NumPy reads the thread limits when it is imported.
    import uvloop

    from model_server.server import run

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(settings, os.environ))


def _fixed_fields(settings: Settings) -> dict[str, str]:
    return {"model": settings.name, "namespace": settings.namespace, "revision": settings.revision}


def _limit_threads(count: int) -> None:
    """One call of a model may use so many threads; more than the pod's CPUs only slow it down."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(count))


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    # Not sys.exit: a call of the model that never returns would hold the process for ever.
    os._exit(code)
