"""One layer with a package below `/models`: the same bytes for the same files, on every machine and at any time.

It is a tar archive without compression. Compressed bytes differ between versions of zlib, and weights hardly shrink;
and what is not compressed is read from the package as it is uploaded, without a copy on disk. Names, contents and
order are the package's; times, owners and modes are fixed.

https://github.com/opencontainers/image-spec/blob/main/layer.md
"""

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from modeldeploy.requests import Refused

#: The folder that `oci://` reads of an image, and that image volumes are looked for.
FOLDER = "models"
#: Hides what layers below have in the folder: the package is all that is in it.
_OPAQUE = f"{FOLDER}/.wh..wh..opq"
_RESERVED = ".wh."
_CHUNK = 2**20
_BLOCK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The layer of a package: its digest (`sha256:...`) and size, and what it is read from."""

    folder: Path
    files: tuple[str, ...]
    digest: str
    size: int

    def content(self) -> Iterator[bytes]:
        """The bytes, read from the package. Raises Refused when a file has another size than before."""
        return _tar(self.folder, self.files)


def layer_of(folder: Path, files: Sequence[str]) -> Layer:
    """Read a package once, for the digest of its layer.

    Args:
        folder: the package.
        files: paths of its files, relative to it, in the order of their bytes.

    Raises:
        Refused: a file has a name that layers use for what they delete, or changes while it is read.
    """
    strange = [name for name in files if any(part.startswith(_RESERVED) for part in PurePosixPath(name).parts)]
    if strange:
        raise Refused(f"{strange[0]!r} cannot be in an image: .wh. marks deletions there; rename it")
    digest, size = hashlib.sha256(), 0
    for chunk in _tar(folder, files):
        digest.update(chunk)
        size += len(chunk)
    return Layer(folder=folder, files=tuple(files), digest=f"sha256:{digest.hexdigest()}", size=size)


def _tar(folder: Path, files: Sequence[str]) -> Iterator[bytes]:
    yield _header(FOLDER, is_folder=True)
    yield _header(_OPAQUE)
    known = set[PurePosixPath]()
    for name in files:
        for parent in reversed(PurePosixPath(name).parents[:-1]):
            if parent not in known:
                known.add(parent)
                yield _header(f"{FOLDER}/{parent}", is_folder=True)
        yield from _file(folder / name, name)
    yield bytes(2 * _BLOCK)


def _file(path: Path, name: str) -> Iterator[bytes]:
    if not path.is_file():
        raise Refused(f"{path} is no file, and cannot be in an image")
    with path.open("rb") as file:
        size = path.stat().st_size
        yield _header(f"{FOLDER}/{name}", size)
        left = size
        while chunk := file.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
    if left:
        raise Refused(f"{path} changed while it was read: bake again when nothing writes to the package")
    yield bytes(-size % _BLOCK)


def _header(name: str, size: int = 0, *, is_folder: bool = False) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mtime = 0
    if is_folder:
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    # Names of more than 100 bytes, and of other letters than ASCII's, are written as POSIX.1-2001 does.
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
