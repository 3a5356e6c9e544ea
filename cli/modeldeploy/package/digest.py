"""The digest of a package's folder, which `spec.model.sha256` pins.

The model server computes the same, and `tests/contract` holds the two to it. It is what this prints inside the folder:
`find -L . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum`.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from modeldeploy.requests import Refused


def files_of(folder: Path) -> list[str]:
    """Paths of all files below the folder, relative to it, in the order of their bytes; links are followed.

    Raises:
        Refused: a link leads to a folder that it is in.
    """
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = Path(parent).resolve()
        for name in folders:
            if (link := Path(parent) / name).is_symlink() and here.is_relative_to(link.resolve()):
                raise Refused(f"{link} is a link to a folder that it is in, which has no end: remove it")
        found += [str((Path(parent) / name).relative_to(folder)) for name in names]
    return sorted(found, key=lambda name: name.encode())


def tree_digest(folder: Path, files: Sequence[str]) -> str:
    """The digest of a folder that holds these files, in this order, as 64 hexadecimal digits."""
    return digest_of(file_digests(folder, files))


def file_digests(folder: Path, files: Sequence[str]) -> dict[str, str]:
    """The SHA-256 of each file, as 64 hexadecimal digits, in the order of the files."""
    return {name: _of_file(folder / name) for name in files}


def digest_of(digests: Mapping[str, str]) -> str:
    """The digest of a folder whose files have these digests, in this order."""
    tree = hashlib.sha256()
    for name, digest in digests.items():
        tree.update(f"{digest}  {name}\n".encode())
    return tree.hexdigest()


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
