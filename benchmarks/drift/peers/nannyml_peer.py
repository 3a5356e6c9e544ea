"""NannyML: the univariate drift calculator for each chunk, with its default method, and with those of tests.

The default is the Jensen-Shannon distance with a fixed threshold. The thresholds of Kolmogorov-Smirnov and chi-squared
are three standard deviations of what the chunks of the reference have.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from importlib.metadata import version

import pandas as pd
from streams import CATEGORY, NUMBERS, Columns

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
import nannyml  # noqa: E402

VERSION = version("nannyml")
_NAMES = [*NUMBERS, CATEGORY]


def monitor_of(reference: Columns, chunk: int) -> Callable[[Columns], dict[str, bool]]:
    calculator = nannyml.UnivariateDriftCalculator(
        column_names=_NAMES,
        treat_as_categorical=[CATEGORY],
        continuous_methods=["jensen_shannon", "kolmogorov_smirnov"],
        categorical_methods=["jensen_shannon", "chi2"],
        chunk_size=chunk,
    )
    calculator.fit(pd.DataFrame(reference))

    def look(seen: Columns) -> dict[str, bool]:
        found = calculator.calculate(pd.DataFrame(seen)).filter(period="analysis").to_df()
        alerts = found.xs("alert", axis=1, level=2)
        is_default = alerts.columns.get_level_values(1) == "jensen_shannon"
        return {
            "NannyML, default": bool(alerts.loc[:, is_default].to_numpy().any()),
            "NannyML, KS and chi-squared": bool(alerts.loc[:, ~is_default].to_numpy().any()),
        }

    return look
