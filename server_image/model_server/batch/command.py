"""`python -m model_server batch`: the shard that JOB_COMPLETION_INDEX names, or all of them; docs/wire.md.

Kubernetes runs it in the pods of an Indexed Job. The pod that finishes the last shard writes the report and `_SUCCESS`.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import orjson
from msgspec import Struct
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_server.batch.plan import FORMATS, PLAN, OnBadRow, OutputFormat, Plan, Wanted, settle
from model_server.batch.quality import reference_of, report
from model_server.batch.reading import Progress
from model_server.batch.shard import Marker, part_name, read_marker, run_shard
from model_server.batch.source import open_input
from model_server.domain.model import LoadedModel
from model_server.errors import InternalError, SettingsInvalid, StartError, first_line
from model_server.loader import load
from model_server.logs import configure
from model_server.settings import PREFIX, TERMINATION_LOG, Settings, read_settings
from model_server.storage.folder import Folder, open_folder
from model_server.storage.redaction import redacted
from model_server.storage.secrets import with_secret
from model_server.termination import exit_code, write_termination

log = logging.getLogger(__name__)

SUCCESS = "_SUCCESS"
REPORT = "_report.json"
#: Kubernetes sets it in the pods of an Indexed Job.
INDEX = "JOB_COMPLETION_INDEX"
MOST_SHARDS = 1_000


class Totals(Struct, kw_only=True):
    """Rows of a finished batch."""

    rows: int
    failed_rows: int
    shards: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code is the server's: 65 for bad data, 69 for storage, 78 for settings."""
    options = _parser().parse_args(arguments)
    configure("info", {})
    termination_log = Path(os.environ.get(f"{PREFIX}TERMINATION_LOG") or TERMINATION_LOG)
    try:
        settings = read_settings(os.environ)
        configure(settings.log_level, {"model": settings.name, "revision": settings.revision})
        result = run(settings, options, os.environ)
    except StartError as error:
        log.error("%s: %s", error.reason, error.message, extra={"hint": error.hint})
        write_termination(error, termination_log)
        return exit_code(error)
    except Exception as error:
        log.exception("the batch failed")
        write_termination(InternalError(f"{type(error).__name__}: {first_line(error)}"), termination_log)
        return 1
    _write(result, termination_log)
    return 0


def run(settings: Settings, options: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, Any]:
    """Predict one shard, or all; return what the termination message says. Raises StartErrors."""
    data = with_secret(environ, options.credentials_dir)
    index, started = _index(environ, options.shards), time.monotonic()
    # First, since a model takes longer to load than a wrong name to be found.
    source, target = open_input(options.input, data), open_folder(options.output, data)
    if PLAN not in target.names():
        source.files()
    progress = Progress()
    _show(progress, settings)
    with tempfile.TemporaryDirectory(prefix="model-batch-") as temporary:
        folder = Path(temporary)
        loaded = load(settings, folder / "model", environ=environ, report=lambda _, text: log.info(text))
        plan = settle(_wanted(options, loaded), loaded.identity.sha256, source, target)
        loaded_at = time.monotonic()
        done = target.names()
        rows = failed = 0
        for number in range(options.shards) if index is None else [index]:
            marker = (
                read_marker(number, target)
                if part_name(plan, number) in done
                else run_shard(loaded, plan, number, source, target, folder, progress)
            )
            rows, failed = rows + marker.rows, failed + marker.failed_rows
        totals = finish(plan, loaded, settings, target)
    result: dict[str, Any] = {"rows": rows, "failedRows": failed, "sha256": plan.model_sha256}
    result |= {"version": loaded.identity.version, "loadSeconds": round(loaded_at - started, 3)}
    result["seconds"] = round(time.monotonic() - started, 3)
    if totals is not None:
        result["batch"] = {"rows": totals.rows, "failedRows": totals.failed_rows, "shards": totals.shards}
    log.info("done", extra=result)
    return result


def finish(plan: Plan, loaded: LoadedModel, settings: Settings, target: Folder) -> Totals | None:
    """Write the report and `_SUCCESS` when all parts are there; None while some are not."""
    names, count = target.names(), plan.wanted.shards
    if not all(part_name(plan, index) in names for index in range(count)):
        return None
    markers = [read_marker(index, target) for index in range(count)]
    totals = Totals(
        rows=sum(one.rows for one in markers), failed_rows=sum(one.failed_rows for one in markers), shards=count
    )
    target.write(REPORT, _document(_report(plan, loaded, settings, markers, totals)))
    target.write(SUCCESS, _document(_totals(totals)))
    return totals


def _report(
    plan: Plan, loaded: LoadedModel, settings: Settings, markers: Sequence[Marker], totals: Totals
) -> dict[str, Any]:
    identity = loaded.identity
    shown = {name: getattr(identity, name) for name in ("model", "version", "revision", "format", "sha256", "uri")}
    inputs = report((one.quality for one in markers), reference_of(loaded), settings.drift_threshold)
    return {
        **_totals(totals),
        "model": shown,
        "input": {"uri": redacted(plan.wanted.input), "files": len(plan.files)},
        "inputs": inputs,
        "rowsByShard": [one.rows for one in markers],
        "failedRowsByShard": [one.failed_rows for one in markers],
    }


def _totals(totals: Totals) -> dict[str, int]:
    return {"rows": totals.rows, "failedRows": totals.failed_rows, "shards": totals.shards}


def _document(content: Mapping[str, Any]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _wanted(options: argparse.Namespace, loaded: LoadedModel) -> Wanted:
    return Wanted(
        id=options.id,
        input=redacted(options.input),
        input_format=options.input_format,
        split=not options.whole_files,
        shards=options.shards,
        output_format=options.output_format,
        on_bad_row=options.on_bad_row,
        probabilities=options.probabilities and bool(loaded.model.probability_output),
    )


def _index(environ: Mapping[str, str], shards: int) -> int | None:
    """The shard of this pod; None outside of a Job. Raises SettingsInvalid."""
    if not 1 <= shards <= MOST_SHARDS:
        raise SettingsInvalid(f"{shards} shards are asked for", hint=f"Write a number from 1 to {MOST_SHARDS}.")
    text = environ.get(INDEX, "")
    if not text:
        return None
    if not text.isdecimal() or int(text) >= shards:
        raise SettingsInvalid(f"{INDEX} is {text!r}", hint=f"There are {shards} shards, and the first is 0.")
    return int(text)


class _Metrics(Collector):
    """`/metrics` of a shard that runs."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def collect(self) -> list[Metric]:
        rows = CounterMetricFamily("modeldeploy_batch_rows", "Rows that this process has read.")
        rows.add_metric((), self._progress.rows)
        failed = CounterMetricFamily("modeldeploy_batch_failed_rows", "Bad rows among them.")
        failed.add_metric((), self._progress.failed_rows)
        share = GaugeMetricFamily("modeldeploy_batch_shard_progress", "Share of the bytes of the shard that are read.")
        share.add_metric((), self._progress.share)
        return [rows, failed, share]


def _show(progress: Progress, settings: Settings) -> None:
    """Serve `/metrics`. The progress is not worth a batch: where the port is taken, it is only logged."""
    registry = CollectorRegistry()
    registry.register(_Metrics(progress))
    try:
        start_http_server(settings.port, addr=settings.host, registry=registry)
    except OSError as error:
        log.warning("no /metrics on port %d: %s", settings.port, error)


def _write(result: Mapping[str, Any], termination_log: Path) -> None:
    try:
        termination_log.write_bytes(orjson.dumps(result))
    except OSError as error:
        log.warning("the termination message cannot be written: %s", error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model_server batch", description=__doc__)
    parser.add_argument("--id", default="", help="what the output folder is claimed by: other ids are refused")
    parser.add_argument("--input", required=True, help="storage URI of a table, a folder of tables, or a pattern")
    parser.add_argument("--input-format", choices=("auto", *FORMATS), default="auto", help="default: by their names")
    parser.add_argument("--whole-files", action="store_true", help="let no two shards read the same file")
    parser.add_argument("--output", required=True, help="storage URI of a folder")
    parser.add_argument("--output-format", choices=get_args(OutputFormat), default="jsonl")
    parser.add_argument("--shards", type=int, default=1, help="parts that the input is divided into")
    parser.add_argument("--on-bad-row", choices=get_args(OnBadRow), default="fail")
    parser.add_argument("--credentials-dir", type=Path, help="a mounted Secret with the credentials of the tables")
    parser.add_argument("--probabilities", action="store_true", help="add a classifier's probabilities")
    return parser
