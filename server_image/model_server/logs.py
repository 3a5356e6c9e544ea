"""JSON logs on stdout, one object a line, for `__main__.py` to switch on.

Extra fields given to a logging call (`extra={"request_id": ...}`) become keys of the object.
"""

from __future__ import annotations

import logging
import os
import select
from datetime import UTC, datetime
from typing import Any

import orjson

STDOUT = 1

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


class Lines(logging.Handler):
    """Writes lines to a file descriptor, and drops them while nobody takes them.

    A pipe whose reader is slow would hold up the event loop, and so every prediction. A write of this size into a pipe
    that is told to be ready does not wait; there is no thread, which a fork would lose.
    """

    PIECE = select.PIPE_BUF
    #: For the rest of a line whose beginning is written.
    PATIENCE_MILLISECONDS = 50

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLOUT)
        self._lost = 0
        self._is_cut = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or count it as lost."""
        try:
            if self._lost and self._write(self.format(self._about_lost())):
                self._lost = 0
            if not self._write(self.format(record)):
                self._lost += 1
        except Exception:
            self.handleError(record)

    def _write(self, line: str) -> bool:
        data = b"%s%s\n" % (b"\n" if self._is_cut else b"", line.encode("utf-8", "backslashreplace"))
        for start in range(0, len(data), self.PIECE):
            if not self._ready.poll(self.PATIENCE_MILLISECONDS if start else 0):
                self._is_cut = self._is_cut or start > 0
                return False
            os.write(self._descriptor, data[start : start + self.PIECE])
        self._is_cut = False
        return True

    def _about_lost(self) -> logging.LogRecord:
        about = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "lost": self._lost}
        return logging.makeLogRecord({**about, "msg": "log lines are lost: nobody took them in time"})


def toggle_debug(level: str) -> None:
    """Switch between debug and the configured level, at run time: `kill -USR1`."""
    root = logging.getLogger()
    root.setLevel(level.upper() if root.level == logging.DEBUG else logging.DEBUG)
    root.warning("log level is now %s", logging.getLevelName(root.level).lower())


def configure(level: str, fixed: dict[str, str]) -> None:
    """Send every logger's records at or above `level` to stdout as JSON."""
    handler = Lines(STDOUT)
    handler.setFormatter(JsonFormatter(fixed))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Libraries warn on stderr otherwise, in lines that are no JSON.
    logging.captureWarnings(True)
    # uvicorn's start and stop lines say nothing that ours do not.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
