"""Evidently: a report with the DataDriftPreset for each chunk, with its defaults."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.metadata import version

import pandas as pd
from streams import CATEGORY, NUMBERS, Columns

warnings.simplefilter("ignore")
from evidently import DataDefinition, Dataset, Report  # noqa: E402
from evidently.presets import DataDriftPreset  # noqa: E402

VERSION = version("evidently")
_DEFINITION = DataDefinition(numerical_columns=list(NUMBERS), categorical_columns=[CATEGORY])


def monitor_of(reference: Columns, _: int) -> Callable[[Columns], dict[str, bool]]:
    known = Dataset.from_pandas(pd.DataFrame(reference), _DEFINITION)

    def look(chunk: Columns) -> dict[str, bool]:
        result = Report([DataDriftPreset()]).run(Dataset.from_pandas(pd.DataFrame(chunk), _DEFINITION), known)
        # The first metric of the preset: how many columns have drifted.
        found = result.dict()["metrics"][0]["value"]
        return {"Evidently": found["count"] > 0}

    return look
