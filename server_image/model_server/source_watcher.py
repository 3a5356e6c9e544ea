"""Polls whether the object at the storage URI is still the one that was loaded; for `server.py`.

The server only says what it sees (`modeldeploy_source_changed`, `modeldeploy_source_problem`). The operator makes a new
revision of it: a model is never exchanged under a running server.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from model_server.errors import StartError
from model_server.storage import fingerprint
from model_server.telemetry import Telemetry

log = logging.getLogger(__name__)

#: Between two looks, however often somebody asks for one.
_LEAST_SECONDS = 2.0


class SourceWatcher:
    """One source under observation, from a thread of its own."""

    def __init__(self, uri: str, interval_seconds: float, environ: Mapping[str, str], telemetry: Telemetry) -> None:
        self._uri, self._environ = uri, environ
        self._interval = interval_seconds
        self._telemetry = telemetry
        self._loaded = self._now = ""
        self._end, self._wake = threading.Event(), threading.Event()

    def remember(self, uri: str) -> None:
        """Note what is about to be downloaded, and from where: what changes meanwhile is then seen as a change."""
        self._loaded = self._now = self._look(uri) if self._interval else ""

    def begin(self) -> None:
        """Poll at every interval from now on; not at all when it is 0."""
        if self._interval:
            threading.Thread(target=self._run, name="source-watcher", daemon=True).start()

    @property
    def polls(self) -> bool:
        """Whether it looks at all."""
        return self._interval > 0

    def look_now(self) -> None:
        """Do not wait for the next poll: somebody says that the source has changed. Many calls may be one look."""
        self._wake.set()

    def close(self) -> None:
        """Stop polling."""
        self._end.set()
        self._wake.set()

    def _run(self) -> None:
        least = min(self._interval, _LEAST_SECONDS)
        while not self._end.wait(least):
            self._wake.wait(self._interval - least)
            if self._end.is_set():
                return
            # Before the look: what changes during it is looked at again.
            self._wake.clear()
            found = self._look(self._uri)
            self._loaded = self._loaded or found
            if found and found != self._now:
                self._now = found
                changed = found if found != self._loaded else ""
                log.info("the object at the storage URI has changed", extra={"fingerprint": found})
                self._telemetry.source_changed(changed)

    def _look(self, uri: str) -> str:
        """The source's fingerprint, "" when storage does not answer: an outage is no change."""
        try:
            found = fingerprint(uri, environ=self._environ)
        except StartError as error:
            log.warning("cannot look whether the model has changed: %s", error.message)
            self._telemetry.source_problem(error.reason)
            return ""
        self._telemetry.source_problem("")
        return found
