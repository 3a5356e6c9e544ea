"""Loads the model beside the running server, and lets the lifecycle serve it; for `server.py`."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from model_server.batching import Batcher, BatchLimits
from model_server.domain.model import LoadedModel
from model_server.errors import InternalError, LoadFailed, RestartNeeded, StartError
from model_server.explanations import ExplanationLimits, ExplanationMetrics, Explanations
from model_server.lifecycle import Lifecycle, Phase, ServingModel
from model_server.loader import load
from model_server.monitoring.monitor import Monitor
from model_server.settings import Settings
from model_server.source_watcher import SourceWatcher
from model_server.storage.pinned import pinned_uri
from model_server.telemetry import Telemetry

log = logging.getLogger(__name__)


class ModelLoader:
    """Loads the model in a thread, so that probes and metrics answer meanwhile."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        folder: Path,
        lifecycle: Lifecycle,
        telemetry: Telemetry,
        end: Callable[[], None],
    ) -> None:
        self.failure: StartError | RestartNeeded | None = None
        self._settings = settings
        self._environ = environ
        self._folder = folder
        self._lifecycle = lifecycle
        self._telemetry = telemetry
        self._end_server = end
        self._loop = asyncio.get_running_loop()
        self._phase_began = time.monotonic()
        self._poll = SourceWatcher(settings.storage_uri, settings.poll_seconds, environ, telemetry)

    def begin(self) -> None:
        """Start loading; success and failure arrive on the event loop."""
        # A daemon: a download must not keep a process alive that was told to end.
        threading.Thread(target=self._load, name="load", daemon=True).start()

    @property
    def source(self) -> SourceWatcher:
        """What looks for changes of the source."""
        return self._poll

    def close(self) -> None:
        """Stop looking for changes of the source."""
        self._poll.close()

    def _load(self) -> None:
        try:
            self._poll.remember(pinned_uri(self._settings))
            loaded = load(self._settings, self._folder, environ=self._environ, report=self._report)
        except RestartNeeded as restart:
            self._tell(self._restart, restart)
        except StartError as error:
            self._tell(self._failed, error)
        except SystemExit as end:
            # In a thread it would pass unseen, and the server would be loading for ever.
            self._tell(self._failed, LoadFailed(f"the package's code ended the process with {end.code!r}"))
        except Exception as error:
            log.exception("loading failed")
            self._tell(self._failed, InternalError(f"loading failed: {type(error).__name__}: {error}"))
        else:
            self._tell(self._loaded, loaded)

    def _tell(self, act: object, argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(act, argument)  # type: ignore[arg-type]
        except RuntimeError:
            log.info("the server ended before the model was loaded")

    def _report(self, phase: Phase, message: str) -> None:
        self._loop.call_soon_threadsafe(self._enter, phase, message)

    def _enter(self, phase: Phase, message: str) -> None:
        if phase is not self._lifecycle.phase:
            self._end_phase()
        self._lifecycle.report(phase, message)
        log.info(message, extra={"phase": phase.value})

    def _end_phase(self) -> None:
        now = time.monotonic()
        self._telemetry.phase(self._lifecycle.phase.value, now - self._phase_began)
        self._phase_began = now

    def _loaded(self, loaded: LoadedModel) -> None:
        self._end_phase()
        settings = self._settings
        limits = BatchLimits(
            max_rows=settings.max_batch_size,
            max_delay_seconds=settings.max_batch_delay_milliseconds / 1000,
            max_queue=settings.max_queue_size,
            timeout_seconds=settings.request_timeout_seconds,
        )

        self._telemetry.loaded(loaded.identity)
        try:
            monitor = Monitor(loaded, settings, self._telemetry)
        except StartError as error:
            self._failed(error)
            return
        batcher = Batcher(loaded.model, limits, self._telemetry)
        explanations = self._explanations(loaded, batcher)
        # What is loaded now stays: without this each full collection walks the libraries' objects.
        gc.collect()
        gc.freeze()
        self._lifecycle.serve(ServingModel(loaded, batcher, monitor, explanations))
        if explanations is not None:
            explanations.begin()
        self._poll.begin()
        if loaded.has_predicted:
            self._telemetry.predicted()
        if self._lifecycle.phase is Phase.READY:
            self._telemetry.ready(True)
        extra = {"version": loaded.identity.version, "sha256": loaded.identity.sha256}
        log.info(self._lifecycle.phase.value, extra=extra)

    def _explanations(self, loaded: LoadedModel, batcher: Batcher) -> Explanations | None:
        if loaded.explainer is None:
            return None
        settings = self._settings
        limits = ExplanationLimits(
            max_rows=min(settings.explanation_max_rows, settings.max_rows),
            max_queue=settings.explanation_queue_size,
            timeout_seconds=settings.request_timeout_seconds,
        )
        return Explanations(loaded, loaded.explainer, batcher, limits, ExplanationMetrics(self._telemetry))

    def _restart(self, restart: RestartNeeded) -> None:
        self.failure = restart
        self._end_server()

    def _failed(self, error: StartError) -> None:
        self.failure = error
        self._lifecycle.report(Phase.FAILED, f"{error.reason}: {error.message}")
        self._end_server()
