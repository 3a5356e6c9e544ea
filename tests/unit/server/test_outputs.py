"""What a model.py may return, and what a client reads of it."""

from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import orjson
import pandas as pd
import pytest

from model_server.domain.tensors import as_json
from model_server.runtimes.outputs import normalize_outputs

DAYS = np.array(["2020-01-31", "NaT"], dtype="datetime64[ns]")
MASKED = np.ma.array([1, 2], mask=[False, True])
TABLE = pd.DataFrame({"label": ["x", "y"], "count": [1, 2]})


def shown(array):
    """As a client reads it."""
    return orjson.loads(orjson.dumps(array.tolist(), default=as_json, option=orjson.OPT_SERIALIZE_NUMPY))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param([1, 2.5], [1.0, 2.5], id="numbers"),
        pytest.param(["a", "b\0"], ["a", "b\0"], id="text, to its last character"),
        pytest.param([["cat", 0.9], ["dog", 1]], [["cat", 0.9], ["dog", 1]], id="numbers beside text stay numbers"),
        pytest.param([1, "a"], [1, "a"], id="a number among texts"),
        pytest.param([True, 2], [True, 2], id="true is not 1"),
        pytest.param([2**63, -1], [2**63, -1], id="whole numbers that no integer type holds together"),
        pytest.param([2**53 + 1, 0.5], [2**53 + 1, 0.5], id="a whole number that no float holds"),
        pytest.param([[1], [2, 3]], [[1], [2, 3]], id="ragged"),
        pytest.param(np.array([["a", 1], ["b", 2]], dtype=object), [["a", 1], ["b", 2]], id="rows of objects"),
        pytest.param([np.array([1, 2]), np.array([3])], [[1, 2], [3]], id="ragged arrays"),
        pytest.param([1, None], [1, None], id="nothing for a row"),
        pytest.param((n for n in (1, 2)), [1, 2], id="a generator"),
        pytest.param(range(2), [0, 1], id="a range"),
        pytest.param(DAYS, ["2020-01-31T00:00:00.000000000", None], id="times, and no time"),
        pytest.param(pd.Series(pd.to_datetime(["2020-01-31"], utc=True)), ["2020-01-31T00:00:00+00:00"], id="a zone"),
        pytest.param([pd.Timestamp("2020-01-31"), pd.NaT], ["2020-01-31T00:00:00", None], id="timestamps of pandas"),
        pytest.param([datetime.date(2020, 1, 31)], ["2020-01-31"], id="dates"),
        pytest.param([Decimal("1.5"), {"a": Decimal(2)}], [1.5, {"a": 2.0}], id="decimals"),
        pytest.param(pd.Series([True, None], dtype="boolean"), [True, None], id="nullable booleans"),
        pytest.param(pd.Series([1, None], dtype="Int64"), [1, None], id="nullable integers"),
        pytest.param(pd.Series(["x", "y"], dtype="category"), ["x", "y"], id="categories"),
        pytest.param(MASKED, [1, None], id="what is masked is nothing"),
        pytest.param(np.array([0.5, 2], dtype=np.longdouble), [0.5, 2.0], id="long doubles"),
        pytest.param([np.int64(3), np.float32(0.5)], [3.0, 0.5], id="NumPy's numbers"),
    ],
)
def test_an_answer_is_read_as_it_was_meant(answer, expected):
    outputs = normalize_outputs(answer)
    assert list(outputs) == ["predict"]
    assert shown(outputs["predict"]) == expected


def test_a_table_is_its_columns():
    outputs = normalize_outputs(TABLE)
    assert {name: shown(array) for name, array in outputs.items()} == {"label": ["x", "y"], "count": [1, 2]}


def test_a_dict_is_its_outputs():
    outputs = normalize_outputs({"a": [1, 2], 7: pd.Series(["x", "y"], index=[5, 6])})
    assert {name: shown(array) for name, array in outputs.items()} == {"a": [1, 2], "7": ["x", "y"]}


async def a_coroutine():
    """Never awaited, on purpose."""


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param("ab", "a str", id="one text is not one character a row"),
        pytest.param(b"ab", "a bytes", id="nor are bytes"),
        pytest.param({"x", "y"}, "a set", id="a set has no order"),
        pytest.param(None, "a NoneType", id="nothing"),
        pytest.param(5, "a int", id="a number"),
        pytest.param(np.array(3), "an array without rows", id="an array without rows"),
        pytest.param({}, "an empty dict", id="no output at all"),
        pytest.param({"y": {"a": 1}}, "a dict for 'y'", id="a dict in a dict"),
        pytest.param({"label": "x"}, "a str for 'label'", id="one row's text for an output"),
        pytest.param(pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns 'a'", id="one name twice"),
        pytest.param(np.array([1j]), "complex128", id="complex numbers"),
    ],
)
def test_what_is_no_prediction_a_row_is_told(answer, message):
    with pytest.raises(TypeError, match=f"predict returned .*{message}"):
        normalize_outputs(answer)


def test_an_async_callable_is_told():
    coroutine = a_coroutine()
    with pytest.raises(TypeError, match="a coroutine"):
        normalize_outputs(coroutine)
    coroutine.close()
