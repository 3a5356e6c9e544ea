"""A table of Parquet is to the model what its rows as objects are, value by value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as arrow
import pytest
from pyarrow import parquet

from model_server.batch.chunks import Table, inputs_of
from model_server.batch.output import output_for
from model_server.domain.features import Feature
from model_server.errors import InvalidInput
from model_server.inputs.columns import Columns
from model_server.inputs.matrix import Matrix

NAN = float("nan")


def model(*features: Feature) -> Any:
    if all(feature.is_numeric for feature in features):
        return SimpleNamespace(adapter=Matrix("x", features, np.dtype("float64")))
    return SimpleNamespace(adapter=Columns(features))


A = Feature(name="a")
NULLABLE = Feature(name="a", nullable=True)


@pytest.mark.parametrize(
    ("features", "columns"),
    [
        pytest.param([A], {"a": [1.5, 2.5]}, id="numbers"),
        pytest.param([A], {"a": [1, 2]}, id="whole numbers for numbers"),
        pytest.param([A], {"a": arrow.array([1.5, 0.1], arrow.float32())}, id="narrow numbers"),
        pytest.param([A], {"b": ["x", "y"], "a": [1.0, 2.0]}, id="columns beside the features"),
        pytest.param([Feature(name="b"), A], {"a": [1.0, 2.0], "b": [3.0, 4.0]}, id="columns in another order"),
        pytest.param([A], {"a": [1.0, None]}, id="a null"),
        pytest.param([NULLABLE], {"a": [1.0, None]}, id="a null that may be"),
        pytest.param([NULLABLE], {"a": [1, None]}, id="a null among whole numbers"),
        pytest.param([A], {"a": [1.0, NAN]}, id="not a number"),
        pytest.param([NULLABLE], {"a": [NAN, None]}, id="not a number beside a null"),
        pytest.param([NULLABLE], {"a": [float("inf"), 1.0]}, id="infinite"),
        pytest.param([A], {"a": [True, False]}, id="truth values for numbers"),
        pytest.param([A], {"a": ["1", "2"]}, id="text for numbers"),
        pytest.param([Feature(name="a", dtype="int64")], {"a": [1.0, 2.5]}, id="a fraction for whole numbers"),
        pytest.param([Feature(name="a", dtype="int64")], {"a": [1.0, 2.0]}, id="whole numbers as floats"),
        pytest.param([Feature(name="a", dtype="int8")], {"a": [1, 300]}, id="a number too wide"),
        pytest.param([Feature(name="a", range=(0.0, 2.0))], {"a": [1.0, 3.0]}, id="out of range"),
        pytest.param([A, Feature(name="b")], {"a": [1.0, 2.0]}, id="a feature that is missing"),
        pytest.param([Feature(name="a", dtype="string")], {"a": ["x", None]}, id="text"),
        pytest.param([Feature(name="a", dtype="bool")], {"a": [True, False]}, id="truth values"),
        pytest.param([Feature(name="a", dtype="any")], {"a": [1, 2]}, id="anything"),
    ],
)
def test_a_table_means_what_its_rows_mean(features: list[Feature], columns: dict[str, Any]) -> None:
    table, loaded = arrow.table(columns), model(*features)
    assert outcome(Table(table, "t", 1).inputs, loaded) == outcome(partial(inputs_of, table.to_pylist()), loaded)


def outcome(read: Callable[[Any], Mapping[str, Any]], loaded: Any) -> Any:
    """The arrays in a form that can be compared, or the faults."""
    try:
        return {name: (str(array.dtype), repr(array.tolist())) for name, array in read(loaded).items()}
    except InvalidInput as refused:
        return refused.problems


def test_a_part_of_a_table_knows_its_rows() -> None:
    part = Table(arrow.table({"a": [1, 2, 3, 4]}), "t.parquet", 11).part(2, 3)
    record = part.broken("no good")
    assert (len(part), record.place, record.row, record.error) == (1, "t.parquet, row 13", {"a": 3}, "no good")


def test_columns_keep_their_types_in_a_part_of_parquet(tmp_path: Any) -> None:
    columns = {"id": arrow.array([1, 2], arrow.int32()), "at": arrow.array([5, 6], arrow.timestamp("ms"))}
    table = arrow.table({**columns, "prediction": ["old", "older"]})
    with output_for("parquet", tmp_path / "p") as part:
        part.write_table(table.slice(0, 1), {"prediction": [0.5]})
        part.write_table(table.slice(1, 1), {"prediction": [1.5]})
    found = parquet.read_table(tmp_path / "p")
    assert [str(field.type) for field in found.schema] == ["int32", "timestamp[ms]", "double"]
    assert found.column("prediction").to_pylist() == [0.5, 1.5]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_text_parts_have_the_rows_of_a_table(tmp_path: Any, kind: str) -> None:
    with output_for(kind, tmp_path / "p") as part:
        part.write_table(arrow.table({"id": [1]}), {"prediction": [0.5]})
    wanted = {"jsonl": '{"id":1,"prediction":0.5}\n', "csv": "id,prediction\n1,0.5\n"}
    assert (tmp_path / "p").read_text() == wanted[kind]


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        pytest.param("jsonl", '{"id":12345678901234567890123.40,"prediction":0.5}\n', id="jsonl"),
        pytest.param("csv", "id,prediction\n12345678901234567890123.40,0.5\n", id="csv"),
    ],
)
def test_decimals_keep_their_digits_in_text(tmp_path: Any, kind: str, written: str) -> None:
    with output_for(kind, tmp_path / "p") as part:
        part.write_table(arrow.table({"id": [Decimal("12345678901234567890123.40")]}), {"prediction": [0.5]})
    assert (tmp_path / "p").read_text() == written


def test_whole_numbers_of_parquet_have_64_bits_with_or_without_a_sign(tmp_path: Any) -> None:
    with output_for("parquet", tmp_path / "p") as part:
        rows = [{"hash": 2**64 - 1, "id": 1}, {"hash": 1, "id": 2**64}, {"hash": 2**64, "id": {"within": [-(2**64)]}}]
        assert list(part.write(rows, {"prediction": [1, 2, 3]})) == [1, 2]
        assert list(part.write([{"hash": 2**63, "id": 2**63}], {"prediction": [4]})) == [0]
        assert list(part.write_columns({"hash": [2, 3], "id": [4, 5]}, {"prediction": [2**70, 6]})) == [0]
    found = parquet.read_table(tmp_path / "p")
    assert [str(field.type) for field in found.schema] == ["uint64", "int64", "int64"]
    assert [list(row.values()) for row in found.to_pylist()] == [[2**64 - 1, 1, 1], [3, 5, 6]]
