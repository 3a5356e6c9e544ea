"""The digest of a package, which pins compare and `/metrics` reports.

A file (an archive too) has the sha256 of its bytes. A folder has a tree hash that a shell can
reproduce: `find -L . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from model_server.errors import DigestMismatch


def digest(path: Path) -> str:
    """The sha256 of a file, or the tree hash of a folder, as 64 hexadecimal digits."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    tree = hashlib.sha256()
    for relative in list_files(path):
        tree.update(f"{digest(path / relative)}  {relative}\n".encode())
    return tree.hexdigest()


def list_files(folder: Path) -> list[str]:
    """Paths of all files below a folder, relative to it and sorted by their bytes; links are followed."""
    found = []
    for parent, _, names in os.walk(folder, followlinks=True):
        found += [os.path.relpath(os.path.join(parent, name), folder) for name in names]  # noqa: PTH118
    return sorted(found)


def verify_pin(actual: str, pinned: str, uri: str) -> None:
    """Raise DigestMismatch unless nothing is pinned or the digest is the pinned one."""
    if pinned and actual != pinned.lower():
        raise DigestMismatch(f"{uri} has sha256 {actual}, and {pinned.lower()} is pinned")
