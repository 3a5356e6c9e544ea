"""`python -m model_server.batch --input URI --output URI`: the model comes from MODEL_SERVER_*, as for the server."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from model_server.batch.job import Plan, predict_all
from model_server.batch.reader import read_rows, table_files
from model_server.errors import StartError
from model_server.loader import load
from model_server.logs import configure
from model_server.package.digest import digest
from model_server.settings import Settings, read_settings
from model_server.storage import fetch
from model_server.storage.folder import open_folder
from model_server.termination import exit_code, write_termination

log = logging.getLogger("model_server.batch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; the exit code is the server's: 65 for bad data, 69 for storage, 78 for settings."""
    options = _parser().parse_args(arguments)
    configure("info", {})
    settings: Settings | None = None
    try:
        settings = read_settings(os.environ)
        configure(settings.log_level, {"model": settings.name, "revision": settings.revision})
        _run(settings, options)
    except StartError as error:
        log.error("%s: %s", error.reason, error.message, extra={"hint": error.hint})
        if settings is not None:
            write_termination(error, settings.termination_log)
        return exit_code(error)
    return 0


def _run(settings: Settings, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="model-batch-") as temporary:
        folder = Path(temporary)
        # First, since a model takes longer to load than a wrong name to be found.
        source = fetch(options.input, folder / "input", environ=os.environ, report=log.info)
        table_files(source)
        loaded = load(settings, folder / "model", environ=os.environ, report=lambda phase, text: log.info(text))
        plan = Plan(
            input=options.input,
            input_sha256=digest(source),
            model_sha256=loaded.identity.sha256,
            chunk_rows=options.chunk_rows,
            probabilities=options.probabilities and bool(loaded.model.probability_output),
            keep_bad_rows=options.keep_bad_rows,
        )
        target = open_folder(options.output, os.environ)
        summary = predict_all(loaded, read_rows(source, loaded.adapter.features), plan, target)
    log.info(
        "done",
        extra={
            "rows": summary.rows,
            "bad_rows": summary.bad_rows,
            "parts": summary.parts,
            "parts_of_an_earlier_run": summary.skipped_parts,
        },
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model_server.batch", description=__doc__)
    parser.add_argument(
        "--input",
        required=True,
        help="storage URI of a table (.csv, .tsv, .json, .jsonl, .parquet; text also as .gz), or of a folder of them",
    )
    parser.add_argument("--output", required=True, help="storage URI of a folder for the parts")
    parser.add_argument("--chunk-rows", type=int, default=10_000, help="rows in a part (default %(default)s)")
    parser.add_argument("--probabilities", action="store_true", help="add a classifier's probabilities")
    parser.add_argument(
        "--keep-bad-rows", action="store_true", help="give a bad row an error instead of ending the job"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
