"""The download engine of every scheme: ranges, attempts, versions, digests, progress and limits.

A scheme brings a `Transport`, which answers one request, and the list of its files. `docs/decisions` has the reasons.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from model_server.errors import ArtifactCorrupt, ArtifactEmpty, ArtifactTooLarge, StorageUnavailable
from model_server.package.digest import digest
from model_server.storage.failures import disk_failure, lasting
from model_server.storage.progress import Progress

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

ATTEMPTS = 6
# Memory in use is at most about one chunk for each read, whatever the size of the package.
CONCURRENT_READS = 8
RANGE_BYTES = 32 * 2**20

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file to bring: `address` is for its transport, `name` its path in the package, "" for the package itself.

    `size` in bytes and `version` (an ETag, or a time) are those of a listing; where they are absent, the first response
    has them. `sha256` is compared when the file is whole.
    """

    address: str
    name: str = ""
    size: int | None = None
    version: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A response: the bytes of a file of `size` bytes, from `start` on or, if not `is_range`, all of them.

    `version` is "" where the server has none that a further request can be held to; such a response is the whole file.
    `chunks` raises StorageUnavailable.
    """

    size: int | None
    version: str
    is_range: bool
    start: int = 0
    chunks: Iterator[ReadableBuffer]
    close: Callable[[], object]


class Transport(Protocol):
    """Sends one request for bytes of a file."""

    def open(self, address: str, start: int, end: int | None, version: str) -> Content:
        """Ask for the bytes from `start` up to `end` (exclusive; None: all), of that version if it is not "".

        Raises:
            StorageUnavailable: another attempt may succeed, unless it `is_lasting`.
            StorageError: the storage refused.
            ArtifactError: there is no such file.
        """


def download(transport: Transport, files: Sequence[RemoteFile], root: Path, uri: str, progress: Progress) -> int:
    """Bring files to `root`, side by side; each gets its name when it is whole. Return their bytes.

    Raises:
        ArtifactEmpty: no file has any bytes.
        ArtifactTooLarge: they do not fit onto the disk.
        ArtifactCorrupt: a file has another size or digest than was announced.
        StorageUnavailable: a file was replaced meanwhile, or the storage did not answer in any attempt.
    """
    known = sum(file.size or 0 for file in files)
    if not known and all(file.size is not None for file in files):
        raise ArtifactEmpty(f"{uri} has no bytes")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        require_space(known, root.parent, uri)
        parts = [_Part(transport, file, root / file.name if file.name else root, uri, progress) for file in files]
        _read(parts)
        for part in parts:
            part.finish()
    except OSError as error:
        raise disk_failure(error, uri, root.parent) from None
    if not any(part.size for part in parts):
        for part in parts:
            part.target.unlink()
        raise ArtifactEmpty(f"{uri} has no bytes")
    return sum(part.size or 0 for part in parts)


def require_space(size: int, folder: Path, uri: str) -> None:
    """Raise ArtifactTooLarge when so many bytes do not fit into a folder's file system."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ArtifactTooLarge(f"{uri} has {size} bytes, and does not fit into {folder}, which has {free} bytes free")


def with_attempts(call: Callable[[], T]) -> T:
    """Call again, with growing pauses, after StorageUnavailable."""
    for last in attempts():
        try:
            return call()
        except StorageUnavailable as error:
            if last or error.is_lasting:
                raise
    raise AssertionError("the last attempt returns or raises")


def attempts() -> Iterator[bool]:
    """One turn an attempt, with waits between them; True for the last."""
    for attempt in range(ATTEMPTS):
        if attempt:
            # Half of the wait is random, so that many pods do not come back together.
            time.sleep(min(0.2 * 2**attempt, 5) * (0.5 + random.random() / 2))  # noqa: S311 - jitter
        yield attempt == ATTEMPTS - 1


def _read(parts: Sequence[_Part]) -> None:
    """Read all parts; the ranges of a file whose size is unknown follow its first response."""
    pool = ThreadPoolExecutor(CONCURRENT_READS, "download")
    try:
        begins: set[Future[Sequence[_Range]]] = {pool.submit(part.begin) for part in parts}
        reads: set[Future[None]] = set()
        while begins or reads:
            running: list[Future[Any]] = [*begins, *reads]
            done = wait(running, return_when=FIRST_COMPLETED).done
            for read in reads & done:
                read.result()
            for begin in begins & done:
                reads |= {pool.submit(one.read) for one in begin.result()}
            begins, reads = begins - done, reads - done
    finally:
        pool.shutdown(cancel_futures=True)


class _Part:
    """One file on its way to disk."""

    def __init__(self, transport: Transport, file: RemoteFile, target: Path, uri: str, progress: Progress) -> None:
        self._transport, self._file, self._progress = transport, file, progress
        self.what = f"{file.name} of {uri}" if file.name else uri
        self.partial = target.with_name(f"{target.name}.partial")
        self.target = target
        if file.size is not None:
            progress.expect(file.size)

    @property
    def size(self) -> int | None:
        """The size of the file in bytes, None while it is unknown."""
        return self._file.size

    @property
    def has_version(self) -> bool:
        """Whether several responses can be put together."""
        return bool(self._file.version)

    def begin(self) -> Sequence[_Range]:
        """Make the file; return the ranges that are left to read, in any order."""
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        self.partial.write_bytes(b"")
        place = 0
        if self._file.size is None or (self._file.size and not self._file.version):
            first = _Range(self, 0, min(RANGE_BYTES, self._file.size or RANGE_BYTES))
            first.read()
            place = first.place
        size = place if self._file.size is None else self._file.size
        self._file = replace(self._file, size=size)
        return [_Range(self, start, min(start + RANGE_BYTES, size)) for start in range(place, size, RANGE_BYTES)]

    def finish(self) -> None:
        """Give the whole file its name. Raises ArtifactCorrupt when its digest is another one."""
        if self._file.sha256 and digest(self.partial) != self._file.sha256:
            raise ArtifactCorrupt(f"{self.what} has another sha256 than was announced")
        self.partial.rename(self.target)

    def open(self, start: int, end: int | None) -> Content:
        """Send one request."""
        return self._transport.open(self._file.address, start, end, self._file.version)

    def learn(self, content: Content) -> None:
        """Take size and version from the first response; later ones have to agree.

        Raises:
            ArtifactCorrupt: a file with a digest has another size than was announced.
            StorageUnavailable: the file was replaced.
        """
        file = self._file
        if content.size is not None and file.size is None:
            require_space(content.size, self.partial.parent, self.what)
            self._progress.expect(content.size)
        elif content.size not in (None, file.size) and file.sha256:
            raise ArtifactCorrupt(
                f"{self.what} has another sha256 than was announced: {content.size} bytes and not {file.size}"
            )
        elif content.size not in (None, file.size) or (file.version and content.version not in ("", file.version)):
            raise replaced(self.what)
        self._file = replace(file, size=content.size or file.size, version=file.version or content.version)

    def advance(self, size: int) -> None:
        """Count bytes that were written, or below zero that have to be read again."""
        self._progress.advance(size)


class _Range:
    """A range of a file: what is there of it, and the attempts to get the rest."""

    def __init__(self, part: _Part, start: int, end: int) -> None:
        self._part, self._start = part, start
        self._end: int | None = end
        self.place = start

    def read(self) -> None:
        """Read the range into its place, or the whole file where the server gives no ranges."""
        for last in attempts():
            try:
                self._attempt()
            except StorageUnavailable as error:
                if last or error.is_lasting:
                    raise
            else:
                return

    def _attempt(self) -> None:
        if self.place > self._start and not self._part.has_version:
            self._restart()
        with closing(self._part.open(self.place, self._end)) as content:
            self._part.learn(content)
            if not content.is_range:
                self._take_whole()
            elif content.start != self.place:
                raise lasting(StorageUnavailable(f"{self._part.what}: the server answered with another range"))
            self._copy(content)

    def _take_whole(self) -> None:
        """The response begins at the first byte: a server without ranges, or with a file that has no version."""
        if self._start:
            raise StorageUnavailable(f"{self._part.what}: the server answered with the whole file instead of a range")
        if self.place:
            self._restart()
        self._end = None

    def _restart(self) -> None:
        self._part.advance(self._start - self.place)
        self.place = self._start

    def _copy(self, content: Content) -> None:
        size = self._part.size
        end = size if self._end is None or size is None else min(self._end, size)
        with self._part.partial.open("r+b") as file:
            file.seek(self.place)
            for chunk in content.chunks:
                written = file.write(chunk)
                self.place += written
                self._part.advance(written)
                if end is not None and self.place > end:
                    raise lasting(StorageUnavailable(f"{self._part.what}: the server sent more than {end} bytes"))
            if self._end is None:
                file.truncate()
        if end is not None and self.place < end:
            raise StorageUnavailable(f"{self._part.what} broke off after {self.place} of {size} bytes")


def replaced(what: str) -> StorageUnavailable:
    """The error for a file of which another version came."""
    return lasting(
        StorageUnavailable(f"{what} was replaced while it was read", hint="The next start reads the new one.")
    )
