"""A worker process as the front sees it: started, asked, and found ended; `pool.py` has several."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from model_server.pool.board import Board, make_board
from model_server.pool.memory import own_bytes
from model_server.pool.quarantine import how_it_ended
from model_server.pool.wire import Asked, Call, Load, Question, Reply, decode_replied, framed, read_frame

log = logging.getLogger(__name__)

#: Of the allocator: one for each thread would keep what the others freed.
_ARENAS = {"MALLOC_ARENA_MAX": "2"}
#: Requests that a process is given before it has answered one; more wait here.
MOST_AT_ONCE = 4096


class ProcessEnded(Exception):
    """The process ended before it answered."""


class WorkerProcess:
    """One start of a worker. When it has ended, another object takes its place."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        board: Board,
        on_end: Callable[[WorkerProcess], None],
        *,
        is_isolated: bool,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._board = board
        self._on_end = on_end
        self._ids = itertools.count(1)
        self._waiting: dict[int, tuple[Question, asyncio.Future[Reply]]] = {}
        # In isolation one model at a time computes: also a signal that comes late has one that caused it.
        self._turn = asyncio.Semaphore(1 if is_isolated else MOST_AT_ONCE)
        self.has_ended = False
        #: Whether it has been given a model, and so may hold memory that it cannot give back.
        self.is_used = False
        #: Whether it was ended for what one model did, which is known.
        self.is_condemned = False
        #: The models that it was computing when it ended, and how that was.
        self.computing: Collection[int] = ()
        self.how = ""
        self._reading = asyncio.create_task(self._read(), name="worker")

    @classmethod
    async def start(
        cls,
        environ: Mapping[str, str],
        folder: Path,
        on_end: Callable[[WorkerProcess], None],
        *,
        is_isolated: bool,
    ) -> WorkerProcess:
        """Start a worker, which reads its settings from `environ`; `on_end` is the first to hear of its end."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        board = make_board()
        words = ("pool-worker", str(theirs.fileno()), str(board), str(folder))
        command = [sys.executable, "-P", "-m", "model_server", *words]
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *command,
                *(["isolated"] if is_isolated else []),
                env={**_ARENAS, **environ},
                pass_fds=(theirs.fileno(), board),
                start_new_session=True,
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        shown = Board(board)
        os.close(board)
        return cls(process, reader, writer, shown, on_end, is_isolated=is_isolated)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def own_bytes(self) -> int:
        """How much memory it has."""
        return 0 if self.has_ended else own_bytes(self.pid)

    async def ask(self, question: Question) -> Reply:
        """Ask, and wait for the reply. Raises ProcessEnded."""
        if isinstance(question, Call | Load):
            async with self._turn:
                return await self._ask(question)
        return await self._ask(question)

    async def _ask(self, question: Question) -> Reply:
        if self.has_ended:
            raise ProcessEnded
        self.is_used = self.is_used or isinstance(question, Load)
        number = next(self._ids)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = question, future
        try:
            self._writer.write(framed(Asked(number, question)))
            return await future
        finally:
            self._waiting.pop(number, None)

    def kill(self) -> None:
        """End it at once."""
        if not self.has_ended and self._process.returncode is None:
            self._process.kill()

    async def ended(self) -> None:
        """Wait until it has ended."""
        await asyncio.shield(self._reading)

    async def close(self) -> None:
        """End it, and wait."""
        self.kill()
        await self.ended()

    async def _read(self) -> None:
        try:
            while True:
                replied = decode_replied(await read_frame(self._reader))
                _, future = self._waiting.get(replied.id, (None, None))
                if future is not None and not future.done():
                    future.set_result(replied.reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            await self._finish()

    async def _finish(self) -> None:
        if self._process.returncode is None:
            # The connection is gone: it ends by itself, or it never will.
            try:
                await asyncio.wait_for(self._process.wait(), 1)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        # A signal that another thread took may come a moment after the call.
        asked = {one.number for one, _ in self._waiting.values() if isinstance(one, Call | Load)}
        self.computing = self._board.numbers or asked
        self.how = how_it_ended(self._process.returncode or 0)
        self.has_ended = True
        self._writer.close()
        self._on_end(self)
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(ProcessEnded())
        self._waiting.clear()
