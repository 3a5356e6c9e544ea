"""Which version of a registered model a revision is of; for `loader.py` and `model_loader.py`.

An alias may have moved since the first pod of a revision started. The operator writes which version the revision is of,
so that a pod that starts later (a node failed, the model was scaled up) loads no other one.
"""

from __future__ import annotations

from pathlib import Path

from model_server.settings import Settings


def pinned_uri(settings: Settings) -> str:
    """The storage URI, with `models:/name/7` in place of an alias where the version of this revision is known."""
    name, separator, _ = settings.storage_uri.partition("@")
    if not separator or not name.startswith("models:/") or settings.registered_versions is None:
        return settings.storage_uri
    version = _versions(settings.registered_versions).get(settings.revision, "")
    return f"{name}/{version}" if version.isascii() and version.isdecimal() else settings.storage_uri


def _versions(file: Path) -> dict[str, str]:
    """Version by revision, as written: one pair a line. Nothing is there before the first pod has told its version."""
    try:
        pairs = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
