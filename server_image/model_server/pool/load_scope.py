"""What surrounds a load in a process that has other models: its modules are its own, and log records tell the model.

`worker.py` loads in it, and `worker_command.py` adds the filter.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path


@contextmanager
def own_modules() -> Iterator[None]:
    """Let a package import its own modules, and forget them: another package may have others of the same names."""
    path, modules = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        added = [one for one in sys.path if one not in path]
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if name == "model" or (file and any(Path(file).is_relative_to(one) for one in added)):
                del sys.modules[name]


_loading: ContextVar[str] = ContextVar("loading", default="")


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Let log records of a load tell the model."""
    token = _loading.set(name)
    try:
        yield
    finally:
        _loading.reset(token)


def name_model(record: logging.LogRecord) -> bool:
    """Write the model that is being loaded into a record; a filter that lets everything through."""
    if _loading.get() and not hasattr(record, "model"):
        record.model = _loading.get()
    return True
