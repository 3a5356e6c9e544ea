"""`python -m model_server evaluate --data URI --target COLUMN --metrics accuracy,f1`: try a model on labelled data.

The model comes from MODEL_SERVER_*, as for the server, and is loaded and asked by the same code. The result is one JSON
object in the termination log (docs/wire.md), where the operator reads it: the step `evaluate` is decided by it.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from model_server.batch.reader import Row, chunks_of, read_rows
from model_server.domain.model import LoadedModel
from model_server.errors import DatasetInvalid, InvalidInput, PredictFailed, RestartNeeded, StartError, StepFailed
from model_server.group_metrics import GroupMetrics
from model_server.inputs.text import number_or_text
from model_server.loader import load
from model_server.logs import configure
from model_server.offline_metrics import ClassificationMetrics, Scores, metrics_for
from model_server.settings import Settings, read_settings
from model_server.storage import fetch
from model_server.storage.secrets import with_secret
from model_server.termination import MOST_BYTES, give_up, termination_file

log = logging.getLogger("model_server.evaluate")

CHUNK_ROWS = 1_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate once; the exit code is the server's: 65 for bad data, 69 for storage, 78 for settings."""
    options = _parser().parse_args(arguments)
    configure("info", {})
    termination = termination_file(os.environ)
    try:
        settings = read_settings(os.environ)
        configure(settings.log_level, {"model": settings.name, "revision": settings.revision})
        result = _run(settings, options)
    except StartError as error:
        return give_up(error, termination)
    except RestartNeeded as restart:
        log.info("starting again: %s", restart)
        words = sys.argv[1:] if arguments is None else arguments
        os.execve(sys.executable, [sys.executable, "-P", "-m", "model_server.evaluate", *words], restart.environ)  # noqa: S606
    log.info("evaluated", extra=result)
    termination.write_bytes(orjson.dumps(result))
    return 0


def evaluate(
    loaded: LoadedModel, rows: Iterator[Row], target: str, measures: Sequence[str], columns: Sequence[str] = ()
) -> tuple[Scores, GroupMetrics]:
    """Predict all rows and score them, also by the groups of `columns`.

    Raises:
        DatasetInvalid: a row, a column or a metric does not fit; the message names it.
    """
    answers_numbers = bool(loaded.outputs) and loaded.outputs[0].datatype.startswith("FP")
    scores = metrics_for(measures, loaded.class_labels, answers_numbers=answers_numbers)
    groups = GroupMetrics(columns, measures, answers_numbers=not isinstance(scores, ClassificationMetrics))
    has_loss = "log-loss" in measures
    if has_loss and not loaded.model.probability_output:
        raise DatasetInvalid("log-loss needs probabilities, and the model gives none")
    if has_loss and not loaded.model.classes:
        raise DatasetInvalid(
            "log-loss needs to know which class each probability is of, and the model does not tell",
            hint="List the classes in model.yaml, as categories of the first of output_features, in the order of the"
            " probabilities.",
        )
    for chunk in chunks_of(rows, CHUNK_ROWS):
        labels = [label_of(row, target) for row in chunk]
        outputs = predict_rows(loaded, chunk, target, first_row=scores.rows + 1, probabilities=has_loss)
        predictions = next(iter(outputs.values())).reshape(len(chunk), -1)[:, 0].tolist()
        probabilities = outputs[loaded.model.probability_output].tolist() if has_loss else None
        groups.add(chunk, scores.add(predictions, labels, probabilities), predictions, labels)
    if not scores.rows:
        raise DatasetInvalid("the data set has no rows")
    if isinstance(scores, ClassificationMetrics):
        groups.close(scores.order)
    return scores, groups


def predict_rows(
    loaded: LoadedModel, chunk: Sequence[Row], target: str, *, first_row: int, probabilities: bool
) -> Mapping[str, Any]:
    """The outputs for some rows of a data set, the first of which is row `first_row`. Raises DatasetInvalid."""
    names = [feature.name for feature in loaded.adapter.features]
    instances = [_instance(row, names, target) for row in chunk]
    try:
        inputs = loaded.adapter.from_instances(instances, numbers_only=False)
        return loaded.model.predict(inputs, probabilities=probabilities)
    except StepFailed as error:
        raise PredictFailed(
            f"rows {first_row} to {first_row + len(chunk) - 1}: {error.whole}",
            hint="Try the rows with the package where it was made; correct the step.",
        ) from None
    except (InvalidInput, ValueError) as error:
        raise DatasetInvalid(f"rows {first_row} to {first_row + len(chunk) - 1}: {error}") from None


def _instance(row: Row, names: Sequence[str], target: str) -> Any:
    """A row as a client would send it: by feature where they have names, else the other columns in their order."""
    if names:
        return {name: row[name] for name in names if name in row}
    return [number_or_text(value) for name, value in row.items() if name != target]


def label_of(row: Row, target: str) -> Any:
    """The true answer of a row. Raises DatasetInvalid where there is no such column."""
    if target not in row:
        near = difflib.get_close_matches(target, row, n=1)
        raise DatasetInvalid(
            f"the data set has no column {target!r}; its columns: {', '.join(map(str, row))}",
            hint=f"Did you mean {near[0]!r}?" if near else "Name the column with the true answers as target.",
        )
    return row[target]


def _run(settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="model-evaluate-") as temporary:
        folder = Path(temporary)
        loaded = load(settings, folder / "model", environ=os.environ, report=lambda _, text: log.info(text))
        environ = with_secret(os.environ, options.credentials_dir)
        data = fetch(options.data, folder / "data", environ=environ, report=log.info)
        measures = [name.strip() for name in options.metrics.split(",")]
        columns = [name.strip() for name in options.groups.split(",") if name.strip()]
        rows = read_rows(data, loaded.adapter.features)
        scores, groups = evaluate(loaded, rows, options.target, measures, columns)
    return _result(scores, groups, measures)


def _result(scores: Scores, groups: GroupMetrics, measures: Sequence[str]) -> dict[str, Any]:
    """What goes into the termination message; groups are left out from the end until it fits."""
    found = {**scores.metrics(), **groups.metrics()}
    result: dict[str, Any] = {
        "rows": scores.rows,
        "metrics": {name: found[name] for name in measures if name in found},
    }
    if not groups.is_empty:
        result |= {"groups": groups.shown(), "notes": groups.notes()}
    while len(orjson.dumps(result)) > MOST_BYTES and result.get("groups"):
        last = result["groups"][next(reversed(result["groups"]))]
        last.popitem()
        if not last:
            result["groups"].popitem()
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model_server.evaluate", description=__doc__)
    parser.add_argument("--data", required=True, help="storage URI of a .csv, .jsonl or .parquet file")
    parser.add_argument("--target", required=True, help="the column with the true answers")
    parser.add_argument("--metrics", required=True, help="what to measure, separated by commas")
    parser.add_argument(
        "--groups", default="", help="columns by whose values quality is told apart, separated by commas"
    )
    parser.add_argument("--credentials-dir", type=Path, help="a mounted Secret with the data's own credentials")
    return parser


if __name__ == "__main__":
    sys.exit(main())
