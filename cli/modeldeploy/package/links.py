"""Links in a package: what they lead to outside of it is not sent along."""

from collections.abc import Iterable
from pathlib import Path

from modeldeploy.requests import Refused


def keep_inside(folder: Path, files: Iterable[str]) -> None:
    """Raise Refused for a file that a link brings in from elsewhere.

    Who sends a folder that somebody else made would send what the links of that folder name, as keys and passwords.

    Args:
        folder: the package.
        files: paths of its files, relative to it.
    """
    root = folder.resolve()
    for name in files:
        there = (folder / name).resolve()
        if not there.is_relative_to(root):
            raise Refused(
                f"{folder / name} is {there}, by a link that leads out of the package: if that belongs to the package,"
                f" write `cp -rL {folder} COPY`, and use the copy"
            )
