"""A process that holds models: loads, unloads and calls them as the front says; `python -m model_server pool-worker`.

It ends when the front does. It knows nothing of budgets and of other processes, and listens on no port.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
from msgspec import structs

from model_server.dataplane import DataPlane
from model_server.domain.model import LoadedModel
from model_server.errors import InternalError, LoadFailed, ModelNotReady, PredictionError, RequestError, StartError
from model_server.lifecycle import Phase
from model_server.loader import load
from model_server.pool.board import Board
from model_server.pool.catalog import ListedModel
from model_server.pool.codecs import OPERATIONS, Noted
from model_server.pool.hosted import HostedModel
from model_server.pool.load_scope import naming, own_modules
from model_server.pool.memory import give_back, own_bytes
from model_server.pool.settings import DOWNLOADS
from model_server.pool.wire import (
    Answered,
    Asked,
    Call,
    Check,
    Describe,
    Document,
    Done,
    Load,
    Loaded,
    NotLoaded,
    Refused,
    Replied,
    Reply,
    Unload,
    decode_asked,
    framed,
    read_frame,
    refusal_of,
)
from model_server.protocols.payload import JSON, Payload
from model_server.protocols.v2 import model_metadata
from model_server.settings import Settings
from model_server.telemetry import Telemetry

log = logging.getLogger(__name__)


class Worker:
    """Answers the front's questions, each in a task of its own."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        folder: Path,
        board: Board,
        *,
        threads: int,
        is_isolated: bool,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._folder = folder
        self._board = board
        self._is_isolated = is_isolated
        self._models: dict[int, HostedModel] = {}
        self._telemetry = Telemetry()
        # One load at a time: imports of packages would meet in the interpreter's tables.
        self._loading = asyncio.Lock()
        self._loader = ThreadPoolExecutor(1, "load")
        # In isolation one thread does everything, so that the board names one model.
        self._threads = self._loader if is_isolated else ThreadPoolExecutor(threads, "predict")

    async def run(self, connection: socket.socket) -> None:
        """Answer until the front closes the connection."""
        reader, writer = await asyncio.open_connection(sock=connection, limit=2**20)
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                asked = decode_asked(await read_frame(reader))
                task = asyncio.create_task(self._answer(asked, writer))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        except (asyncio.IncompleteReadError, ConnectionError):
            log.info("the front has ended the connection")

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(framed(Replied(asked.id, await self._reply(asked))))

    async def _reply(self, asked: Asked) -> Reply:
        question = asked.question
        try:
            match question:
                case Call():
                    return await self._call(question)
                case Load():
                    return await self._load(question)
                case Unload():
                    return await self._unload(question)
                case Describe():
                    plane = self._hosted(question.number).plane
                    return Answered(orjson.dumps(model_metadata(plane.loaded)), JSON, [])
                case Document():
                    plane = self._hosted(question.number).plane
                    return Answered(await asyncio.to_thread(_described, plane), JSON, [])
                case Check():
                    return Done(tuple(number for number, one in self._models.items() if one.is_hung))
        except RequestError as error:
            return refusal_of(error)
        except Exception:
            log.exception("a question of the front failed")
            return refusal_of(PredictionError("the server failed on this request"))

    def _hosted(self, number: int) -> HostedModel:
        found = self._models.get(number)
        if found is None:
            raise ModelNotReady("the model was unloaded meanwhile")
        return found

    async def _call(self, call: Call) -> Answered | Refused:
        plane = self._hosted(call.number).plane
        headers, codec = dict(call.headers), Noted(call.codec)
        asked: dict[str, Any] = {
            "headers": headers,
            "identifier": call.identifier,
            "operation": call.codec,
            "path": call.path,
            "started": time.perf_counter(),
            "target": (plane.name, call.version),
        }

        async def read() -> Payload:
            return Payload(call.body, headers)

        try:
            if codec.explains:
                answer = await plane.explain(codec, read, **asked)
            else:
                answer = await plane.call(codec, read, **asked, is_trusted=True)
        except RequestError as error:
            return refusal_of(error, explains=codec.explains)
        return Answered(answer.body, answer.content_type, list(answer.headers), codec.explains)

    async def _load(self, question: Load) -> Loaded | NotLoaded:
        number, listed = question.number, question.model
        settings = _settings_of(self._settings, listed, self._folder)
        async with self._loading:
            began = time.perf_counter()
            try:
                loaded, grown = await asyncio.get_running_loop().run_in_executor(
                    self._loader, self._load_in_thread, number, settings
                )
            except StartError as error:
                self._remove_files(number)
                return NotLoaded(error.reason, error.message, error.hint, error.permanent)
        self._models[number] = HostedModel(
            number,
            loaded,
            settings,
            board=self._board,
            threads=self._threads,
            telemetry=self._telemetry,
            may_inline=not self._is_isolated,
        )
        return Loaded(loaded.identity.version, grown, time.perf_counter() - began)

    def _load_in_thread(self, number: int, settings: Settings) -> tuple[LoadedModel, int]:
        """The model, and how much the process has grown by it; 0 where it has brought libraries that others use too."""
        modules, before = len(sys.modules), own_bytes()
        with self._board.computing(number), own_modules(), naming(settings.name):
            try:
                loaded = load(settings, self._own_folder(number), environ=self._environ, report=_tell, is_alone=False)
            except StartError:
                raise
            except SystemExit as end:
                raise LoadFailed(f"the package's code ended the process with {end.code!r}") from None
            except Exception as error:
                log.exception("loading failed", extra={"model": settings.name})
                raise InternalError(f"loading failed: {type(error).__name__}: {error}") from error
        if len(sys.modules) != modules:
            # What libraries made while they were imported stays: full collections need not look at it again.
            gc.collect()
            gc.freeze()
            return loaded, 0
        return loaded, max(own_bytes() - before, 0)

    async def _unload(self, question: Unload) -> Done:
        closed = [self._models.pop(number) for number in question.numbers if number in self._models]
        while closed:
            closed.pop().close()
        # Behind a load that may be running: what it frees and grows by would be counted for the other.
        async with self._loading:
            await asyncio.get_running_loop().run_in_executor(self._loader, _free)
            for number in question.numbers:
                self._remove_files(number)
        return Done()

    def _own_folder(self, number: int) -> Path:
        return self._folder / f"model-{number}"

    def _remove_files(self, number: int) -> None:
        shutil.rmtree(self._own_folder(number), ignore_errors=True)


def _settings_of(settings: Settings, listed: ListedModel, folder: Path) -> Settings:
    """The settings of a server that serves this model alone."""
    return structs.replace(
        settings,
        name=listed.name,
        storage_uri=listed.storage_uri,
        format=listed.format,
        version=listed.version,
        sha256=listed.sha256,
        trusted=listed.trusted,
        cache_dir=settings.cache_dir or folder.parent / DOWNLOADS,
    )


def _described(plane: DataPlane) -> bytes:
    # Imported only here: few models are looked at.
    from model_server.http.described import describe_model

    return orjson.dumps(describe_model(plane, plane.loaded, OPERATIONS))


def _free() -> None:
    """Free what nobody refers to, and return it to the system."""
    # Runtimes and estimators refer to themselves.
    gc.collect()
    give_back()


def _tell(phase: Phase, message: str) -> None:
    log.debug(message, extra={"phase": phase.value})


def serve_models(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    connection: int,
    board: int,
    folder: Path,
    threads: int,
    is_isolated: bool,
) -> None:
    """Run a worker until the front ends; for `command.py`."""
    import uvloop

    async def run() -> None:
        with socket.socket(fileno=connection) as front:
            front.setblocking(False)
            worker = Worker(settings, environ, folder, Board(board), threads=threads, is_isolated=is_isolated)
            await worker.run(front)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    # A call that never returns would hold the process for ever.
    logging.shutdown()
    os._exit(0)
