"""`python -m model_server pool-worker`: a process of a pool, which the pool starts itself; it has no web framework."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from model_server.logs import configure
from model_server.pool.load_scope import name_model
from model_server.pool.settings import read_pool_settings
from model_server.pool.worker import serve_models


def main(arguments: list[str]) -> int:
    """Hold models for a pool: the descriptors of its socket and its board, a folder, and whether it is isolated."""
    pool_settings, settings = read_pool_settings(os.environ)
    configure(settings.log_level, {"pool": settings.name, "namespace": settings.namespace})
    for handler in logging.root.handlers:
        handler.addFilter(name_model)
    # The front tells of each load; of a thousand models, each step of each would hide all else.
    logging.getLogger("model_server.loader").setLevel(max(logging.WARNING, logging.root.level))
    connection, board, folder, *isolated = arguments
    serve_models(
        settings,
        os.environ,
        connection=int(connection),
        board=int(board),
        folder=Path(folder),
        threads=pool_settings.threads,
        is_isolated=bool(isolated),
    )
    return 0
