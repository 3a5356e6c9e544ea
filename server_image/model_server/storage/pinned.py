"""Which version of a registered model a revision is of; for `loader.py` and `model_loader.py`.

An alias may have moved since the first pod of a revision started. The operator writes which version the revision is of,
so that a pod that starts later (a node failed, the model was scaled up) loads no other one.
"""

from __future__ import annotations

import re
from pathlib import Path

from model_server.settings import Settings

#: URIs that name another version later, and the versions that they may name.
_MOVING = {
    re.compile(r"(models:/[^@]+)@.*"): re.compile(r"[0-9]+"),
    re.compile(r"(model-registry://[^/]+)"): re.compile(r"[A-Za-z0-9][-._+A-Za-z0-9]*"),
}


def pinned_uri(settings: Settings) -> str:
    """The storage URI, with the version of this revision, where it is known, in place of an alias or of none."""
    uri, file = settings.storage_uri, settings.registered_versions
    for moving, allowed in _MOVING.items():
        if file is not None and (found := moving.fullmatch(uri)):
            version = _versions(file).get(settings.revision, "")
            return f"{found[1]}/{version}" if allowed.fullmatch(version) else uri
    return uri


def _versions(file: Path) -> dict[str, str]:
    """Version by revision, as written: one pair a line. Nothing is there before the first pod has told its version."""
    try:
        pairs = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
