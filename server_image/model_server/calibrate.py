"""`python -m model_server calibrate --data URI --target COLUMN`: what the probabilities of a classifier mean.

The model comes from MODEL_SERVER_*, as for the server, and predicts labelled rows that it was not trained with. The
result is the block `calibration` of model.yaml, as one JSON object in the last line of stdout; `modeldeploy package
--holdout` writes it there. The quality that is estimated without labels rests on it.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from model_server.batch.reader import Row, chunks_of, read_rows
from model_server.domain.calibration import Calibration, Label
from model_server.domain.model import LoadedModel
from model_server.errors import DatasetInvalid, DependencyMissing, StartError
from model_server.evaluate import CHUNK_ROWS, label_of, predict_rows
from model_server.loader import load
from model_server.logs import configure
from model_server.offline_metrics import plain_text
from model_server.settings import Settings, read_settings
from model_server.storage import fetch
from model_server.termination import give_up, termination_file

log = logging.getLogger("model_server.calibrate")


def main(arguments: Sequence[str] | None = None) -> int:
    """Calibrate once; the exit code is the server's: 65 for bad data, 69 for storage, 78 for settings."""
    options = _parser().parse_args(arguments)
    configure("info", {})
    termination = termination_file(os.environ)
    try:
        calibration = _run(read_settings(os.environ), options)
    except StartError as error:
        return give_up(error, termination)
    sys.stdout.write(msgspec.json.encode(calibration).decode() + "\n")
    return 0


def calibrate(loaded: LoadedModel, rows: Iterator[Row], target: str) -> Calibration:
    """Predict all rows, and fit.

    Raises:
        DatasetInvalid: the model has no probabilities, or a row does not fit it; the message says which.
        DependencyMissing: scikit-learn is not installed.
    """
    _require_probabilities(loaded)
    # Imported only here: a server does without.
    try:
        import sklearn  # noqa: F401

        from model_server.calibration_fit import fit
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            f"a calibration needs {error.name}, which is not installed", hint="Install modeldeploy[server-sklearn]."
        ) from None
    classes = loaded.model.classes
    places = {plain_text(label): place for place, label in enumerate(classes)}
    said, sure, right, done = [np.empty(0, dtype=int)], [np.empty(0)], [np.empty(0)], 0
    for chunk in chunks_of(rows, CHUNK_ROWS):
        outputs = predict_rows(loaded, chunk, target, first_row=done + 1, probabilities=True)
        answers = next(iter(outputs.values()))
        predicted = np.array([places[plain_text(answer)] for answer in answers.tolist()])
        labels = [_place(label_of(row, target), places, done + index + 1) for index, row in enumerate(chunk)]
        said.append(predicted)
        sure.append(outputs[loaded.model.probability_output][np.arange(len(chunk)), predicted])
        right.append((predicted == labels).astype(np.float64))
        done += len(chunk)
    plain = cast(Sequence[Label], np.array(classes, dtype=object).tolist())
    answers = np.array(plain, dtype=object)[np.concatenate(said)]
    return fit(answers, np.concatenate(sure), np.concatenate(right), plain)


def _place(label: Any, places: dict[str, int], row: int) -> int:
    text = plain_text(label)
    if text not in places:
        raise DatasetInvalid(f"row {row}: {label!r} is no class of the model; its classes: {', '.join(places)}")
    return places[text]


def _require_probabilities(loaded: LoadedModel) -> None:
    if loaded.answers_numbers or not loaded.model.probability_output:
        why = "answers numbers" if loaded.answers_numbers else "gives none"
        raise DatasetInvalid(
            f"a calibration is of the probabilities of a classifier, and the model {why}",
            hint="Of a classifier, list the classes in model.yaml: as categories of the first of output_features. Else"
            " package it without a holdout.",
        )
    if len(loaded.model.classes) < 2:
        raise DatasetInvalid(
            "a calibration needs to know which class each probability is of, and the model does not tell",
            hint="List the classes in model.yaml, as categories of the first of output_features, in the order of the"
            " probabilities.",
        )


def _run(settings: Settings, options: argparse.Namespace) -> Calibration:
    with tempfile.TemporaryDirectory(prefix="model-calibrate-") as temporary:
        folder = Path(temporary)
        loaded = load(settings, folder / "model", environ=os.environ, report=lambda _, text: log.info(text))
        data = fetch(options.data, folder / "data", environ=os.environ, report=log.info)
        return calibrate(loaded, read_rows(data, loaded.adapter.features), options.target)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model_server calibrate", description=__doc__)
    parser.add_argument(
        "--data", required=True, help="storage URI of labelled rows that the model was not trained with"
    )
    parser.add_argument("--target", required=True, help="the column with the true answers")
    return parser


if __name__ == "__main__":
    sys.exit(main())
