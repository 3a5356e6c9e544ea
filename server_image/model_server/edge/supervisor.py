"""Starts the servers of `modeldeploy serve`, and lets a better package take over: observe, try, judge, switch.

The public socket is opened once, here. Each server inherits it and accepts from it while it serves, so that clients
talk to a server itself and no request passes through this process.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Coroutine, Mapping
from typing import Any

from msgspec.structs import replace

from model_server.edge.comparison import Judgement, compare
from model_server.edge.judging import Verdict
from model_server.edge.packages import PackageStore, Refusal, StoredPackage
from model_server.edge.server_process import ServerEnded, ServerProcess
from model_server.edge.threads import in_thread
from model_server.errors import ArtifactNotFound, StartError, StorageError
from model_server.settings import PREFIX, Settings
from model_server.supervision import SupervisorReport

log = logging.getLogger(__name__)

#: Seconds after which a package that is still not loaded is refused.
LOAD_SECONDS = 1800
#: Both servers accept for a moment, so that somebody always does.
OVERLAP_SECONDS = 0.5
#: Beyond what a request may take.
GRACE_SECONDS = 10
BACKOFF_SECONDS = (1, 2, 5, 10, 30)
#: A server that has lived so long may be started again at once.
HEALTHY_SECONDS = 60


class Supervisor:
    """One URI, one public socket, one server that answers, and at times a second one that is judged."""

    def __init__(
        self,
        poll_seconds: float,
        judgement: Judgement,
        settings: Settings,
        environ: Mapping[str, str],
        packages: PackageStore,
        listener: socket.socket,
    ) -> None:
        self._poll_seconds = poll_seconds
        self._judgement = judgement
        self._settings = settings
        self._environ = environ
        self._packages = packages
        self._listener = listener
        self._report = SupervisorReport()
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._started_at = 0.0
        self._leaving: set[asyncio.Task[None]] = set()
        self._serving: tuple[ServerProcess, StoredPackage] | None = None
        self._candidate: ServerProcess | None = None

    def stop(self) -> None:
        """End in order; asked twice, at once."""
        if self._stop.is_set():
            for server in (self._candidate, self._serving and self._serving[0]):
                if server is not None:
                    server.kill()
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`. Raises the StartError or ServerEnded of a first package that cannot be served."""
        try:
            if not await self._until_stopped(self._begin()):
                return
            follow = asyncio.create_task(self._follow(), name="follow")
            try:
                await self._keep_serving()
            finally:
                follow.cancel()
                await asyncio.gather(follow, return_exceptions=True)
        finally:
            await self._end()

    async def _begin(self) -> None:
        """Serve the package on disk, or the one at the URI when there is none or it does not start."""
        kept = await in_thread(self._packages.kept)
        if kept is not None:
            log.info("serving the package that was kept", extra={"sha256": kept.sha256, "fetched": kept.fetched_at})
            try:
                await self._serve(kept)
            except ServerEnded as end:
                log.error("the kept package does not start: %s", end)
            else:
                self._tell(self._refusal_of_last_time())
                await in_thread(lambda: self._packages.remove_others(kept))
                return
        package = await self._first()
        await self._serve(package)
        self._packages.keep(package)
        await in_thread(lambda: self._packages.remove_others(package))

    async def _first(self) -> StoredPackage:
        """Fetch until the storage answers. Raises the StartErrors that another attempt would meet as well."""
        while True:
            try:
                return await in_thread(lambda: self._packages.bring(self._packages.look()))
            except StorageError as error:
                log.warning("no package yet: %s", error.message, extra={"hint": error.hint})
            await asyncio.sleep(min(self._poll_seconds or BACKOFF_SECONDS[-1], BACKOFF_SECONDS[-1]))

    async def _serve(self, package: StoredPackage) -> None:
        """Start a server that answers at once. Raises ServerEnded when it cannot load the package."""
        server = await self._start(package, is_held=False)
        self._serving, self._started_at = (server, package), time.monotonic()
        server.tell(self._report)
        await server.wait_loaded()
        log.info("serving", extra={"sha256": package.sha256, "pid": server.pid})

    async def _start(self, package: StoredPackage, *, is_held: bool) -> ServerProcess:
        path = self._packages.path_of(package)
        environ = {
            **self._environ,
            f"{PREFIX}STORAGE_URI": path.resolve().as_uri(),
            f"{PREFIX}REVISION": self._settings.revision or package.sha256[:10],
            f"{PREFIX}POLL_SECONDS": "0",
        }
        folder = self._packages.folder_of(package) / "server"
        return await ServerProcess.start(folder, self._listener, environ, is_held=is_held)

    async def _keep_serving(self) -> None:
        """Start the server again when it ends, until the end is wanted."""
        failures = 0
        while not self._stop.is_set():
            server, package = self._current
            self._changed.clear()
            await self._first_of(server.wait(), self._changed.wait(), self._stop.wait())
            if self._stop.is_set() or self._current[0] is not server:
                continue
            failures = 0 if time.monotonic() - self._started_at > HEALTHY_SECONDS else failures
            pause = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
            failures += 1
            log.error("the server ended and is started again in %d s: %s", pause, server.ended())
            await self._first_of(asyncio.sleep(pause), self._stop.wait())
            if self._stop.is_set():
                return
            await server.stop(0)
            try:
                await self._until_stopped(self._serve(package))
            except ServerEnded:
                continue  # said by the next turn

    async def _follow(self) -> None:
        """Look at the URI, now and at every interval."""
        while self._poll_seconds:
            try:
                await self._look()
            except Exception:
                log.exception("a look at the URI failed")
                await self._leave(self._candidate)
            await asyncio.sleep(self._poll_seconds)

    async def _look(self) -> None:
        try:
            source = await in_thread(self._packages.look)
        except StartError as error:
            self._say_offline(error)
            return
        if self._report.is_offline:
            log.info("the storage answers again")
            self._tell(replace(self._report, is_offline=False))
        refused = self._packages.state.refused
        if source == self._current[1].source:
            self._tell(replace(self._report, reason="", source=""))
        elif refused is None or source != refused.source:
            await self._try(source)

    async def _try(self, source: str) -> None:
        """Fetch another package, start it beside the one that serves, and let the better one answer."""
        log.info("another package is at the URI", extra={"source": source})
        try:
            package = await in_thread(lambda: self._packages.bring(source))
        except (StorageError, ArtifactNotFound) as error:
            self._say_offline(error)
            return
        except StartError as error:
            self._refuse(Refusal(source=source, sha256="", message=f"{error.reason}: {error.message}"))
            return
        if not await self._is_news(package):
            return
        verdict = await self._tried(package)
        if verdict.is_accepted and self._candidate is not None:
            await self._switch(self._candidate, package, verdict)
            return
        await self._leave(self._candidate)
        self._packages.remove(package)
        self._refuse(Refusal(source=source, sha256=package.sha256, message=verdict.message))

    async def _is_news(self, package: StoredPackage) -> bool:
        """Whether these bytes neither serve nor were refused: an upload of the same bytes changes nothing."""
        server, current = self._current
        refused = self._packages.state.refused
        if package.sha256 == current.sha256:
            log.info("it is the package that serves already")
            self._serving = (server, replace(current, source=package.source))
            self._packages.keep(self._serving[1])
        elif refused is not None and package.sha256 == refused.sha256:
            self._packages.refuse(replace(refused, source=package.source))
        else:
            return True
        self._packages.remove(package)
        return False

    async def _tried(self, package: StoredPackage) -> Verdict:
        self._candidate = candidate = await self._start(package, is_held=True)
        try:
            await asyncio.wait_for(candidate.wait_loaded(), LOAD_SECONDS)
            log.info("loaded and warm beside the one that serves", extra={"sha256": package.sha256})
            return await compare(lambda: self._current[0], candidate, self._judgement)
        except ServerEnded as end:
            return Verdict(is_accepted=False, message=str(end))
        except TimeoutError:
            return Verdict(is_accepted=False, message=f"it is not loaded after {LOAD_SECONDS // 60} minutes")

    async def _switch(self, server: ServerProcess, package: StoredPackage, verdict: Verdict) -> None:
        old, before = self._current
        self._packages.keep(package)
        server.open()
        self._serving, self._candidate, self._started_at = (server, package), None, time.monotonic()
        self._changed.set()
        self._tell(replace(self._report, switched=self._report.switched + 1, reason="", source=""))
        log.info("the new package answers: %s", verdict.message, extra={"sha256": package.sha256, "pid": server.pid})
        await asyncio.sleep(OVERLAP_SECONDS)
        leaving = asyncio.create_task(self._retire(old, before), name="retire")
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _retire(self, server: ServerProcess, package: StoredPackage) -> None:
        await self._leave(server)
        self._packages.remove(package)

    def _refuse(self, refusal: Refusal) -> None:
        self._packages.refuse(refusal)
        log.error("the new package is refused, the old one goes on: %s", refusal.message)
        report = replace(self._report, refused=self._report.refused + 1)
        self._tell(replace(report, reason=refusal.message, source=refusal.source))

    def _say_offline(self, error: StartError) -> None:
        if not self._report.is_offline:
            log.warning("the package on disk goes on: %s", error.message, extra={"hint": error.hint})
            self._tell(replace(self._report, is_offline=True))

    def _refusal_of_last_time(self) -> SupervisorReport:
        refused = self._packages.state.refused
        return self._report if refused is None else replace(self._report, reason=refused.message, source=refused.source)

    def _tell(self, report: SupervisorReport) -> None:
        self._report = report
        self._current[0].tell(report)

    async def _leave(self, server: ServerProcess | None) -> None:
        if server is not None:
            if server is self._candidate:
                self._candidate = None
            await server.stop(self._settings.drain_seconds + self._settings.request_timeout_seconds + GRACE_SECONDS)

    async def _end(self) -> None:
        serving = self._serving[0] if self._serving else None
        await asyncio.gather(self._leave(self._candidate), self._leave(serving), *self._leaving)

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do it unless the end is wanted first; whether it was done."""
        task = asyncio.create_task(work)
        await self._first_of(asyncio.shield(task), self._stop.wait())
        if task.done():
            task.result()
            return True
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False

    async def _first_of(self, *waits: Any) -> None:
        """Wait for one of several; the others are cancelled."""
        tasks = [asyncio.ensure_future(one) for one in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _current(self) -> tuple[ServerProcess, StoredPackage]:
        if self._serving is None:
            raise RuntimeError("nothing serves yet")
        return self._serving
