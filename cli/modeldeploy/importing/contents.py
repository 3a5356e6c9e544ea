"""The files of a source: those of a folder, or of an archive, which is a stranger's. Reads and writes files."""

import shutil
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from modeldeploy.requests import Refused

_MOST_ENTRIES = 10_000
#: Deflate cannot exceed about 1030:1, and no real model comes near it.
_RATIO = 200
_HARMLESS_BYTES = 256 * 2**20
_CHUNK = 1 << 20
#: What reading a broken, encrypted or strangely packed entry raises.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, KeyError, ValueError)


class Contents(Protocol):
    """Where the files of a package come from."""

    def copy(self, name: str, target: Path) -> None:
        """Write the file `name` of the source to `target`. Raises Refused, OSError."""


@dataclass(frozen=True, slots=True)
class Folder:
    """The files below a folder."""

    root: Path

    def names(self) -> list[str]:
        """Return the paths of all files, relative to the folder."""
        return [one.relative_to(self.root).as_posix() for one in sorted(self.root.rglob("*")) if one.is_file()]

    def read(self, name: str, limit: int) -> bytes:
        """Return a file of at most `limit` bytes."""
        with self._inside(name).open("rb") as file:
            return _within(file.read(limit + 1), name, limit)

    def copy(self, name: str, target: Path) -> None:
        """Copy one file."""
        shutil.copyfile(self._inside(name), target)

    def _inside(self, name: str) -> Path:
        """The file, if no link leads out: the folder may be a stranger's, and what is imported is sent elsewhere."""
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise Refused(f"{name} is {path}, by a link that leads out of {self.root}: copy the file there")
        return path


@dataclass(frozen=True, slots=True)
class Archive:
    """The files in a zip. Entries are written to places that we choose, never to those that they name."""

    path: Path
    #: Bytes that were written, piece by piece.
    _written: list[int] = field(default_factory=list)

    def names(self) -> list[str]:
        """Return the names of all files in it."""
        with self._opened() as archive:
            entries = archive.infolist()
        if len(entries) > _MOST_ENTRIES:
            raise Refused(f"has {len(entries)} files, and {_MOST_ENTRIES} are read")
        return [one.filename for one in entries if not one.is_dir()]

    def read(self, name: str, limit: int) -> bytes:
        """Return a file of at most `limit` bytes."""
        try:
            with self._opened() as archive, archive.open(name) as file:
                return _within(file.read(limit + 1), name, limit)
        except _BROKEN as error:
            raise Refused(f"{name} cannot be unpacked: {error}") from None

    def copy(self, name: str, target: Path) -> None:
        """Unpack one file. The sizes in an archive's headers are claims; what is written is counted, of all files."""
        most = max(_HARMLESS_BYTES, self.path.stat().st_size * _RATIO)
        try:
            with self._opened() as archive, archive.open(name) as file, target.open("wb") as written:
                while chunk := file.read(_CHUNK):
                    self._written.append(len(chunk))
                    if sum(self._written) > most:
                        raise Refused(f"{self.path} unpacks to {_RATIO} times its size and more: it is no model")
                    written.write(chunk)
        except _BROKEN as error:
            raise Refused(f"{self.path}: {name} cannot be unpacked: {error}") from None

    def _opened(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except zipfile.BadZipFile as error:
            raise Refused(f"is no zip: {error}") from None


def _within(content: bytes, name: str, limit: int) -> bytes:
    if len(content) > limit:
        raise Refused(f"{name} is larger than {limit >> 20} MiB, which no document is")
    return content
