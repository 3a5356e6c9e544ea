"""The last words of a server that cannot serve: what Kubernetes shows, and the exit code; docs/wire.md."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import orjson

from model_server.errors import ArtifactError, SettingsInvalid, StartError, StorageError
from model_server.logs import configure
from model_server.settings import PREFIX, TERMINATION_LOG

log = logging.getLogger(__name__)

MOST_BYTES = 4096
# sysexits.h: EX_DATAERR, EX_UNAVAILABLE, EX_CONFIG, EX_SOFTWARE.
EXIT_CODES: tuple[tuple[type[StartError], int], ...] = (
    (ArtifactError, 65),
    (StorageError, 69),
    (SettingsInvalid, 78),
)
EX_SOFTWARE = 70


def exit_code(error: StartError) -> int:
    """The process's exit code for an error."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), EX_SOFTWARE)


def termination_file(environ: Mapping[str, str]) -> Path:
    """Where the message goes, also of settings that cannot be read."""
    return Path(environ.get(f"{PREFIX}TERMINATION_LOG") or TERMINATION_LOG)


def give_up(error: StartError, path: Path) -> int:
    """Log why nothing is done, leave it where Kubernetes looks, and return the exit code."""
    if not logging.root.handlers:
        configure("info", {})
    log.error("%s: %s", error.reason, error.message, extra={"hint": error.hint, "permanent": error.permanent})
    write_termination(error, path)
    return exit_code(error)


def termination_message(error: StartError) -> bytes:
    """The JSON object, at most 4096 bytes: a long message is cut, never the JSON."""
    message, hint = error.message, error.hint
    while True:
        document = {"reason": error.reason, "message": message, "hint": hint, "permanent": error.permanent}
        encoded = orjson.dumps(document)
        if len(encoded) <= MOST_BYTES:
            return encoded
        # A cut text may still be escaped to twice its length, so cut until it fits.
        message, hint = message[: len(message) * 3 // 4], hint[: len(hint) * 3 // 4]


def write_termination(error: StartError, path: Path) -> None:
    """Leave the message where Kubernetes looks for it. A file that cannot be written is only logged."""
    try:
        path.write_bytes(termination_message(error))
    except OSError as failure:
        log.warning("the termination message cannot be written: %s", failure)
