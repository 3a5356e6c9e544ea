"""The credentials of tables, which may be others than those of the model; for `evaluate` and `batch`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from model_server.settings import PREFIX


def with_secret(environ: Mapping[str, str], folder: Path | None) -> Mapping[str, str]:
    """The environment with a mounted Secret's keys in the place of the model's own credentials."""
    if folder is None:
        return environ
    held = {file.name: file.read_text() for file in folder.iterdir() if file.is_file()}
    return {**environ, **held, f"{PREFIX}CREDENTIALS_DIR": str(folder)}
