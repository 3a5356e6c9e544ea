"""A copy of a package that nobody else can write to: what was verified is what is loaded; `cache.py` makes it.

Files of a shared volume may change between the moment they are hashed and the moment they are loaded. The copy is
hashed while it is written, so the digest is that of the bytes that the model is made of.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from pathlib import Path

from model_server.errors import ArtifactCorrupt, ArtifactTooLarge
from model_server.package.digest import list_files

CHUNK_BYTES = 1 << 20
READ_ONLY = 0o444


def private_copy(source: Path, into: Path) -> tuple[Path, str]:
    """Copy a file or folder into the new folder `into`.

    Returns:
        The copy, of the same name and with files that are read-only, and its digest (`package/digest.py`).

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


def _copy_all(source: Path, into: Path) -> tuple[Path, str]:
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True, mode=0o700)
    target = into / source.name
    if not source.is_dir():
        return target, _copy(source, target)
    tree = hashlib.sha256()
    for name in list_files(source):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        tree.update(f"{_copy(source / name, place)}  {name}\n".encode())
    target.mkdir(exist_ok=True)
    return target, tree.hexdigest()


def _copy(source: Path, target: Path) -> str:
    """Copy the bytes of a file and return their sha256."""
    sha256 = hashlib.sha256()
    # Opening a pipe would wait for its writer.
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as reader:
        if not stat.S_ISREG(os.fstat(reader.fileno()).st_mode):
            raise ArtifactCorrupt(f"{source.name} is no regular file")
        with target.open("xb", buffering=0) as writer:
            while chunk := reader.read(CHUNK_BYTES):
                sha256.update(chunk)
                writer.write(chunk)
            os.fchmod(writer.fileno(), READ_ONLY)
    return sha256.hexdigest()
