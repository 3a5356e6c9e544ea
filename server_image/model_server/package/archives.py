"""Unpacks .tar.gz and .zip packages; `package/reader.py` calls it after the digest is verified.

An archive is a stranger's program for writing files: each entry is checked before a byte is written.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from model_server.errors import ArchiveUnsafe, ArtifactCorrupt
from model_server.package.formats import TAR_SUFFIXES, is_mac_litter


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """What an archive may unpack to."""

    total_bytes: int = 64 * 2**30
    entries: int = 100_000
    # Deflate cannot exceed about 1030:1, and no real model comes near it.
    ratio: int = 200
    # A small archive of a sparse model compresses well and harms nobody.
    harmless_bytes: int = 256 * 2**20


def unpack(archive: Path, into: Path, limits: ArchiveLimits) -> Path:
    """Unpack into a new folder and return the package's root: `into`, or its only folder.

    Raises ArchiveUnsafe for an entry that is not a plain file or folder inside, and for a bomb;
    ArtifactCorrupt for an archive that cannot be read to its end.
    """
    into.mkdir(parents=True)
    most = max(limits.harmless_bytes, archive.stat().st_size * limits.ratio)
    budget = Budget(archive.name, min(most, limits.total_bytes), limits.entries)
    try:
        entries = _tar_entries if archive.name.lower().endswith(TAR_SUFFIXES) else _zip_entries
        with closing(entries(archive)) as found:
            for name, content in found:
                with content:
                    budget.count_entry()
                    if is_mac_litter(name):
                        continue
                    target = into / safe_path(archive.name, name)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("xb") as file:
                        budget.copy(content, file)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise ArtifactCorrupt(f"{archive.name} cannot be unpacked: {error}") from None
    inside = list(into.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else into


class Budget:
    """Counts what is really written: the sizes in an archive's headers are claims."""

    def __init__(self, archive: str, most_bytes: int, most_entries: int) -> None:
        self._archive = archive
        self._bytes = self._most_bytes = most_bytes
        self._entries = self._most_entries = most_entries

    def count_entry(self) -> None:
        """Count one file. Raises ArchiveUnsafe."""
        self._entries -= 1
        if self._entries < 0:
            raise ArchiveUnsafe(f"{self._archive} holds more than {self._most_entries} files")

    def copy(self, source: IO[bytes], target: IO[bytes]) -> None:
        """Write one file's content. Raises ArchiveUnsafe."""
        while chunk := source.read(1 << 20):
            self._bytes -= len(chunk)
            if self._bytes < 0:
                raise ArchiveUnsafe(f"{self._archive} unpacks to more than {self._most_bytes} bytes")
            target.write(chunk)


def safe_path(archive: str, name: str) -> Path:
    """Where an entry goes, relative to the folder it is unpacked to. Raises ArchiveUnsafe for a way out of it."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0]:
        raise ArchiveUnsafe(f"{archive} holds {name!r}, which would be written outside the package")
    return Path(*path.parts)


def _tar_entries(archive: Path) -> Generator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isdir():
                continue
            if not member.isreg():
                kind = "a link" if member.issym() or member.islnk() else "a device"
                raise ArchiveUnsafe(f"{archive.name} holds {member.name!r}, which is {kind}")
            content = tar.extractfile(member)
            if content is None:
                raise ArtifactCorrupt(f"{archive.name}: {member.name!r} has no content")
            yield member.name, content


def _zip_entries(archive: Path) -> Generator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as bundle:
        for member in bundle.infolist():
            if member.is_dir():
                continue
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                what = "a link" if kind == stat.S_IFLNK else "a device"
                raise ArchiveUnsafe(f"{archive.name} holds {member.filename!r}, which is {what}")
            yield member.filename, bundle.open(member)
