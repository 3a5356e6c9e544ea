"""A copy of a package that nobody else can write to: what was verified is what is loaded; `cache.py` makes it.

Files of a shared volume may change between the moment they are hashed and the moment they are loaded. The copy is both
hashed and loaded. The kernel makes it: a loop in Python would take longer than copying and hashing one after the other.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from model_server.errors import ArtifactCorrupt, ArtifactTooLarge
from model_server.package.digest import list_files

#: The most that one call of sendfile copies.
MOST_BYTES = 1 << 30
CHUNK_BYTES = 1 << 20
READ_ONLY = 0o444


def private_copy(source: Path, into: Path) -> Path:
    """Copy a file or folder into the new folder `into`.

    Returns:
        The copy, of the same name and with files that are read-only.

    Raises:
        ArtifactCorrupt: an entry is no regular file.
        ArtifactTooLarge: the disk is full.
    """
    try:
        return _copy_all(source, into)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ArtifactTooLarge(f"the copy of {source.name} does not fit: {error.strerror}") from None


def _copy_all(source: Path, into: Path) -> Path:
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True, mode=0o700)
    target = into / source.name
    if not source.is_dir():
        _copy(source, target)
        return target
    target.mkdir()
    for name in list_files(source):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        _copy(source / name, place)
    return target


def _copy(source: Path, target: Path) -> None:
    # Opening a pipe would wait for its writer.
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as reader:
        if not stat.S_ISREG(os.fstat(reader.fileno()).st_mode):
            raise ArtifactCorrupt(f"{source.name} is no regular file")
        with target.open("xb", buffering=0) as writer:
            try:
                while os.sendfile(writer.fileno(), reader.fileno(), None, MOST_BYTES):
                    pass
            except OSError as error:
                # Some file systems in user space cannot.
                if error.errno != errno.EINVAL:
                    raise
                shutil.copyfileobj(reader, writer, CHUNK_BYTES)
            os.fchmod(writer.fileno(), READ_ONLY)
