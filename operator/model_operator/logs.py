"""Logs to standard error, as JSON lines or as plain text."""

import json
import logging
import sys
from datetime import UTC, datetime


class JsonFormatter(logging.Formatter):
    """Formats one JSON object for each line: time, level, logger, message, and the stack of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up(level: str, style: str, *, audit: bool = False) -> None:
    """Send all logs to standard error; those of libraries only at warning level and above.

    Args:
        audit: whether the decisions go to standard output, one line of JSON each; else they go nowhere.
    """
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if style == "json" else plain)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    decisions = logging.getLogger("model_operator.audit")
    decisions.handlers = [logging.StreamHandler(sys.stdout) if audit else logging.NullHandler()]
    decisions.setLevel(logging.INFO)
    decisions.propagate = False
    for noisy in ("kopf", "aiohttp", "asyncio", "kubernetes"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
