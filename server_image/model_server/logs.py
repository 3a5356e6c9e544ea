"""JSON logs on stdout, one object a line, for `__main__.py` to switch on.

Extra fields given to a logging call (`extra={"request_id": ...}`) become keys of the object.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record as one JSON object: time, level, logger, message, the fixed fields, the extra fields."""

    def __init__(self, fixed: dict[str, str]) -> None:
        super().__init__()
        self._fixed = {key: value for key, value in fixed.items() if value}

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fixed,
        }
        entry.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def toggle_debug(level: str) -> None:
    """Switch between debug and the configured level, at run time: `kill -USR1`."""
    root = logging.getLogger()
    root.setLevel(level.upper() if root.level == logging.DEBUG else logging.DEBUG)
    root.warning("log level is now %s", logging.getLevelName(root.level).lower())


def configure(level: str, fixed: dict[str, str]) -> None:
    """Send every logger's records at or above `level` to stdout as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(fixed))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Libraries warn on stderr otherwise, in lines that are no JSON.
    logging.captureWarnings(True)
    # uvicorn's start and stop lines say nothing that ours do not.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
