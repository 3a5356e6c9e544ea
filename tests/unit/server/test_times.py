"""Times and columns of anything, in what monitoring makes of them."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from model_server.domain.features import Feature, parse_time
from model_server.domain.tensors import values_of
from model_server.inputs.columns import Columns
from model_server.monitoring.drift import Bins


@pytest.mark.parametrize(
    ("text", "dtype", "expected"),
    [
        ("2024-03-01", "date", datetime(2024, 3, 1)),
        ("20240301", "date", datetime(2024, 3, 1)),
        ("2024-03-01T05:00", "date", None),
        ("2024-03-01", "datetime", datetime(2024, 3, 1)),
        ("2024-03-01 05:00:00.5", "datetime", datetime(2024, 3, 1, 5, 0, 0, 500_000)),
        ("2024-03-01T05:00:00+02:00", "datetime", datetime(2024, 3, 1, 3)),
        ("2024-02-30", "date", None),
        ("1677-12-31", "date", None),
        ("2262-01-01", "date", None),
        ("", "datetime", None),
    ],
)
def test_a_time_is_iso_8601_in_utc(text, dtype, expected):
    assert parse_time(text, dtype) == expected


def test_times_are_shown_as_times_and_missing_ones_as_nothing():
    feature = Feature(name="t", dtype="datetime", nullable=True)
    (column,) = Columns([feature]).from_instances([["2024-03-01T05:00:00"], [None]], numbers_only=False).values()
    assert column.dtype == "datetime64[ns]"
    assert values_of(column) == [datetime(2024, 3, 1, 5), None]


def test_what_is_no_number_has_no_place_among_edges():
    values = np.array([1.0, "x", True, None, 7], dtype=object)
    assert Bins(counts=(1, 1), edges=(0.0, 5.0, 9.0)).count(values).tolist() == [1, 1]


def test_a_column_of_anything_keeps_each_value():
    adapter = Columns([Feature(name="a", dtype="any")])
    given = [[[1, 2]], [{"b": 1}], ["x"], [None], [True], [2]]
    (column,) = adapter.from_instances(given, numbers_only=False).values()
    assert column.tolist() == [row[0] for row in given]
    (numbers,) = adapter.from_instances([[1], [None], [2.5]], numbers_only=False).values()
    assert numbers.dtype == np.float64
