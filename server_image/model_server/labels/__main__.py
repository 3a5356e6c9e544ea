"""`python -m model_server labels --labels URI --log URI`: score what was predicted, once its labels are known.

Labels of a table meet predictions of the input log by request id, and are sent to the servers of the revisions that
predicted, as `/feedback` that comes late. The model's name and the storage credentials come from MODEL_SERVER_*. The
report is one JSON object, the last line of stdout.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import ssl
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import orjson

from model_server.errors import DatasetInvalid, SettingsInvalid, StartError
from model_server.inputs.text import number_or_text
from model_server.labels.ledger import Ledger
from model_server.labels.log_reader import LogReader, Part, parts_of
from model_server.labels.run import Run
from model_server.labels.sender import Senders
from model_server.labels.store import LabelStore
from model_server.labels.table import Columns, read_labels
from model_server.logs import configure
from model_server.settings import PREFIX
from model_server.storage import fetch
from model_server.storage.folder import Folder, open_folder
from model_server.termination import give_up, termination_file

log = logging.getLogger("model_server.labels")

#: Kubernetes keeps so much of a termination message.
_TERMINATION_BYTES = 4096


def main(arguments: Sequence[str] | None = None) -> int:
    """Join once; the exit code is the server's: 65 for bad data, 69 for storage, 78 for settings."""
    options = _parser().parse_args(arguments)
    configure("info", {})
    signal.signal(signal.SIGTERM, _interrupted)
    termination = termination_file(os.environ)
    try:
        report = _run(options, now=datetime.now(UTC))
    except StartError as error:
        return give_up(error, termination)
    # The last line of stdout: the lines of the log come before it.
    sys.stdout.write(orjson.dumps(report).decode() + "\n")
    if options.report is not None:
        options.report.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
    if termination.parent.is_dir() and os.access(termination.parent, os.W_OK):
        termination.write_bytes(shortened(report))
    return 0


def shortened(report: dict[str, Any]) -> bytes:
    """The report as a termination message: revisions with the fewest labels are left out until it fits."""
    ranked = sorted(report["revisions"].items(), key=lambda pair: pair[1]["labelled"], reverse=True)
    while True:
        left_out = len(report["revisions"]) - len(ranked)
        text = orjson.dumps({**report, "revisions": dict(ranked)} | ({"left_out": left_out} if left_out else {}))
        if len(text) <= _TERMINATION_BYTES or not ranked:
            return text[:_TERMINATION_BYTES]
        ranked.pop()


def since_text(text: str, now: datetime) -> str:
    """A time, or an age like 7d or 12h, as the log writes times; "" for none. Raises SettingsInvalid."""
    age = re.fullmatch(r"(\d{1,5})([dh])", text)
    if not text:
        return ""
    try:
        if age:
            days, hours = (int(age[1]), 0) if age[2] == "d" else (0, int(age[1]))
            return (now - timedelta(days=days, hours=hours)).isoformat(timespec="milliseconds")
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise SettingsInvalid(f"--since {text!r} is no time", hint="Write 2026-01-31, 7d or 12h.") from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="milliseconds")


def _run(options: argparse.Namespace, *, now: datetime) -> dict[str, Any]:
    model = os.environ.get(f"{PREFIX}NAME") or "model"
    since = since_text(options.since, now)
    columns = Columns(id=options.id, label=options.label, row=options.row, time=options.time)
    senders = None if options.dry_run else _senders(options.send)
    folder, parts, names = _open_log(options.log, since)
    with tempfile.TemporaryDirectory(prefix="model-labels-") as temporary:
        source = _fetch_table(options.labels, Path(temporary))
        store = LabelStore(Path(temporary) / "labels.sqlite")
        try:
            read_labels(source, columns, store)
            reader, ledger = LogReader(folder, model, since=since), Ledger(folder, names, now=now)
            run = Run(store, reader, ledger, senders, classes=_classes(options.classes), again=options.again)
            run.join(parts)
            return {"model": model, "sends": senders is not None, **run.report()}
        finally:
            store.close()
            if senders:
                senders.close()


def _fetch_table(uri: str, folder: Path) -> Path:
    return fetch(_uri(uri), folder / "table", environ=os.environ, report=log.info)


def _open_log(text: str, since: str) -> tuple[Folder, list[Part], set[str]]:
    """The folder of the log, its parts, and all names in it. Raises SettingsInvalid, DatasetInvalid."""
    uri = _uri(text)
    path = Path(uri.removeprefix("file://")) if uri.startswith("file://") else None
    if path is not None and path.is_file():
        folder = open_folder(path.parent.as_uri(), os.environ)
        return folder, [Part(path.name, (path.name,))], folder.names()
    if path is not None and not path.is_dir():
        raise DatasetInvalid(f"the log {text} does not exist", hint="It is the sink of spec.server.inputLog.")
    folder = open_folder(uri, os.environ)
    names = folder.names()
    parts = parts_of(names, since=since)
    if not parts:
        raise DatasetInvalid(
            f"{text} holds no input log{' since then' if since else ''}: it has no files like 2026-01-31/x.jsonl",
            hint="Name the folder that is the sink of spec.server.inputLog, or a file of its lines.",
        )
    return folder, parts, names


def _uri(text: str) -> str:
    return text if "://" in text else Path(text).absolute().as_uri()


def _senders(given: Sequence[str]) -> Senders | None:
    if not given:
        return None
    pairs = [tuple(text.split("=", 1)) for text in given if "{revision}" not in text]
    templates = [text for text in given if "{revision}" in text]
    if len(templates) > 1 or any(len(pair) != 2 for pair in pairs):
        raise SettingsInvalid(
            "--send wants REVISION=URL, or once a URL with {revision} in it",
            hint="For example --send 'http://churn-{revision}.shop:80'.",
        )
    return Senders(dict(pairs), templates[0] if templates else "", key=_key(), context=_context())  # type: ignore[arg-type]


def _key() -> str:
    """The first API key of the mounted Secret; "" without one."""
    folder = os.environ.get(f"{PREFIX}AUTH_DIR")
    files = sorted(file for file in Path(folder).iterdir() if file.is_file()) if folder else []
    return files[0].read_text().strip() if files else ""


def _context() -> ssl.SSLContext | None:
    """Also trust the certificate authority of the model's own certificate, where it is mounted."""
    folder = os.environ.get(f"{PREFIX}TLS_DIR")
    authority = Path(folder) / "ca.crt" if folder else None
    if authority is None or not authority.is_file():
        return None
    context = ssl.create_default_context()
    context.load_verify_locations(authority)
    return context


def _classes(text: str) -> list[Any]:
    return [_class(one.strip()) for one in text.split(",")] if text else []


def _class(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    number = number_or_text(text)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _interrupted(*_: object) -> NoReturn:
    # As an exception it passes through `finally`, where the receipts of what was sent are written.
    raise SystemExit(128 + signal.SIGTERM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model_server labels", description=__doc__)
    parser.add_argument("--labels", required=True, help="URI or file of a .csv, .jsonl or .parquet table of labels")
    parser.add_argument("--log", required=True, help="URI or folder of the input log, or a file of its lines")
    parser.add_argument("--id", default="id", help="the column with the request's id (default %(default)s)")
    parser.add_argument("--label", default="label", help="the column with the label (default %(default)s)")
    parser.add_argument("--row", default="", help="the column with the row of the request, from 0")
    parser.add_argument("--time", default="", help="the column with the label's time, which tells what is late")
    parser.add_argument("--since", default="", help="read the log from here: a time, or an age like 7d or 12h")
    parser.add_argument("--classes", default="", help="the model's classes in their order, separated by commas")
    parser.add_argument(
        "--send", action="append", default=[], help="REVISION=URL of its server, or one URL with {revision} in it"
    )
    parser.add_argument("--report", type=Path, help="a file that the report is written to as well")
    parser.add_argument("--dry-run", action="store_true", help="report, and send nothing")
    parser.add_argument("--again", action="store_true", help="also send labels that an earlier run has sent")
    return parser


if __name__ == "__main__":
    sys.exit(main())
