"""Text that is read and written as columns is, byte by byte, what it is row by row."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from model_server.batch.chunks import Cells, Objects, Places, Records, inputs_of, together
from model_server.batch.output import output_for
from model_server.batch.plan import Piece
from model_server.batch.reading import next_rows
from model_server.batch.slices import open_text, reading
from model_server.batch.source import InputFile
from model_server.domain.features import Feature
from model_server.errors import ArtifactCorrupt, InputUnsplittable, InvalidInput
from model_server.inputs.columns import Columns
from model_server.inputs.matrix import Matrix, matrix_dtype

ODD = [
    *["", '""', " ", '" "', "0", "-0", "007", "-007", "+1", " 1", "1 ", "\t1", "1_0", "0x10", "1,5", '"1,5"', "3.0"],
    *["1.", ".5", "1e5", "1E-7", "1e400", "1e-400", "nan", "NaN", "-inf", "Infinity", "NULL", "NA", "null", "None"],
    *["9007199254740993", "9223372036854775808", "-9223372036854775809", "18446744073709551615", "1" * 40, "\u0663"],
    *["--1", "1-2", "True", "TRUE", "true", "tRue", "false", " true", "yes", "1e16", "123456789012345680", "0.00001"],
    *["1e22", "5e-324", "0.1", "0.30000000000000004", "100000000000000000000.5", "2024-03-01", "2024-02-30"],
    *[
        "2024-03-01T05:00:00Z",
        "caf\u00e9",
        "\u2028",
        "\ufeff",
        "a\\b",
        "\x7f",
        "\x01",
        "\0",
        "\b\f\v",
        "'",
        "x" * 50,
        "#",
        "\\N",
    ],
    *['a"b', '"a"b', '"a""b"', '""""', '"a\nb"', '"a\r\nb"', "a\rb", "\rx", '"', '"open', '"=1+1"', '"\n"', '"a" '],
    *[' "a"', "1d", "1f", "infinit", "nan(1)", "1e", "e1", "-"],
]
DTYPES = ["float64", "float32", "int64", "uint8", "bool", "string", "date", "datetime", "any"]
NAN = float("nan")
NEVER_NULL = ["int64", "uint8", "bool"]

cells = st.one_of(
    st.sampled_from(ODD),
    st.floats(allow_nan=False).map(repr),
    st.integers(-(2**65), 2**65).map(str),
    st.text("abc\u00e9,\"'\\ ", max_size=5).map(lambda text: '"' + text.replace('"', '""') + '"'),
)
#: Columns that are mostly of one kind, as those of tables are.
kinds = st.sampled_from(
    [
        cells,
        st.floats(-1e6, 1e6).map(repr),
        st.integers(-99, 99).map(str),
        st.sampled_from(["", "1.5", "-2.25"]),
        st.sampled_from(["true", "False", "1"]),
        st.text("ab \u00e9", max_size=4),
        st.sampled_from(["2024-03-01", ""]),
    ]
)


@st.composite
def features(draw: Any) -> list[Feature]:
    found = []
    for name in draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=3)):
        dtype = draw(st.sampled_from(DTYPES))
        found.append(Feature(name=name, dtype=dtype, nullable=dtype not in NEVER_NULL and draw(st.booleans())))
    return found


@st.composite
def tables(draw: Any) -> bytes:
    names = draw(
        st.lists(st.sampled_from(["a", "b", "c", "d", "prediction", '"x y"', "\u00e9"]), unique=True, min_size=1)
    )
    columns = [draw(kinds) for _ in names]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    lines = [",".join(names)]
    for _ in range(draw(st.integers(0, 9))):
        lines.append(",".join(draw(column) for column in columns))
        if draw(st.integers(0, 19)) == 0:
            lines.append(draw(st.sampled_from(["", "1,2,3,4,5,6,7,8", " ", "\r"])))
    text = end.join(lines) + draw(st.sampled_from([end, ""]))
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode() + draw(st.sampled_from([b"", b"", b"\xff"]))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(-1e300, 1e300) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
#: Mostly of the types that features have.
json_cells = st.one_of(
    st.just(1.5),
    st.integers(-(2**65), 2**65),
    st.just(7),
    st.sampled_from([None, True, "a", "2024-03-01", NAN, 3.0, [1]]),
)
#: Of one object, or of what is none.
json_lines = st.one_of(
    st.dictionaries(st.sampled_from(["a", "b", "c", "prediction"]), values, max_size=4).map(json.dumps),
    st.sampled_from(
        ["", " ", "[1]", '{"a":1},{"a":2}', '{"a":[1', '2]},{"b":1}', "{", '{"a": 1e400}', '{"a":1,"a":2}\r']
    ),
)


def model(wanted: list[Feature]) -> Any:
    if wanted and all(feature.is_numeric for feature in wanted):
        return SimpleNamespace(adapter=Matrix("x", wanted, matrix_dtype(wanted)))
    return SimpleNamespace(adapter=Columns(wanted))


Part = Cells | Objects | Records
#: The first byte of a piece, and the one behind its last.
spans = st.one_of(st.just((0, 10**6)), st.tuples(st.integers(0, 40), st.integers(0, 200)))


def parts_of(
    kind: str, content: bytes, wanted: list[Feature], span: tuple[int, int], count: int, *, many_at_once: bool
) -> Iterator[Part]:
    file = InputFile("t", len(content), "")
    piece = Piece(file, kind, min(span[0], len(content)), min(span[1], len(content)))
    with reading(piece):
        text = open_text(piece, io.BytesIO(content), wanted)
        while part := next_rows(text, count, wanted, many_at_once=many_at_once):
            yield part


def all_that_is_read(parts: Iterator[Part]) -> Any:
    """Every row with its place, or why they cannot be read."""
    found = []
    try:
        for part in parts:
            if isinstance(part, Records):
                found += [((one.file, one.number), repr(one.row), one.error, one.text) for one in part.records]
            else:
                found += [(place, repr(row), "", "") for place, row in zip(part.places, part.rows, strict=True)]
    except (ArtifactCorrupt, InputUnsplittable) as error:
        return error.message
    return found


@pytest.mark.parametrize(
    ("dtype", "nullable"),
    [(dtype, nullable) for dtype in DTYPES for nullable in (False, True) if not nullable or dtype not in NEVER_NULL],
)
def test_an_odd_cell_is_what_it_is_in_a_row(dtype, nullable):
    wanted = [Feature(name="a", dtype=dtype, nullable=nullable)]
    for cell in ODD:
        one_column = f"a\n{cell}\n".encode()
        assert read(one_column, wanted, many_at_once=True) == read(one_column, wanted, many_at_once=False)
        for rows in ([cell], ["1", cell, ""]):
            content = "\n".join(["a,b", *(f"{one},{one}" for one in rows)]).encode()
            assert read(content, wanted, many_at_once=True) == read(content, wanted, many_at_once=False)
            check_inputs(content, wanted)
            for kind in ("jsonl", "csv") if cell else ("jsonl", "csv", "parquet"):
                check_output(content, wanted, kind, np.full(6, 0.1, np.float32))


def read(content: bytes, wanted: list[Feature], *, many_at_once: bool) -> Any:
    return all_that_is_read(parts_of("csv", content, wanted, (0, 10**6), 10, many_at_once=many_at_once))


@given(st.sampled_from(["csv", "tsv"]), tables(), features(), spans, st.integers(1, 6))
def test_columns_of_csv_are_the_rows_one_by_one(kind, content, wanted, span, count):
    if kind == "tsv":
        content = content.replace(b",", b"\t")
    one_by_one = parts_of(kind, content, wanted, span, count, many_at_once=False)
    at_once = parts_of(kind, content, wanted, span, count, many_at_once=True)
    assert all_that_is_read(at_once) == all_that_is_read(one_by_one)


@given(st.lists(json_lines, max_size=8).map("\n".join), spans, st.integers(1, 6))
def test_many_json_lines_are_the_rows_one_by_one(text, span, count):
    one_by_one = parts_of("jsonl", text.encode(), [], span, count, many_at_once=False)
    at_once = parts_of("jsonl", text.encode(), [], span, count, many_at_once=True)
    assert all_that_is_read(at_once) == all_that_is_read(one_by_one)


def read_at_once(content: bytes, wanted: list[Feature]) -> list[Part]:
    try:
        parts = list(parts_of("csv", content, wanted, (0, 10**6), 10, many_at_once=True))
    except (ArtifactCorrupt, InputUnsplittable):
        return []
    return [part for part in parts if not isinstance(part, Records)]


@given(tables(), features())
def test_the_model_gets_of_columns_what_it_gets_of_rows(content, wanted):
    check_inputs(content, wanted)


@given(
    st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys("abcd", json_cells)), min_size=1, max_size=5), features()
)
def test_the_model_gets_of_json_lines_what_it_gets_of_rows(rows, wanted):
    loaded = model(wanted)
    lines = Objects(rows, Places([("t", np.arange(len(rows)))]))
    assert outcome(lines.inputs, loaded) == outcome(partial(inputs_of, rows), loaded)


def check_inputs(content: bytes, wanted: list[Feature]) -> None:
    loaded = model(wanted)
    for part in read_at_once(content, wanted):
        assert outcome(part.inputs, loaded) == outcome(lambda loaded, rows=part.rows: inputs_of(rows, loaded), loaded)


def outcome(read: Callable[[Any], Mapping[str, Any]], loaded: Any) -> Any:
    """The arrays in a form that can be compared, or the faults."""
    try:
        return {name: (str(array.dtype), repr(array.tolist())) for name, array in read(loaded).items()}
    except InvalidInput as refused:
        return refused.problems


#: What a model may give for six rows.
predictions = st.one_of(
    hypothesis_numpy.arrays(st.sampled_from(["f8", "f4", "f2", "i8", "u1", "?"]), 6),
    hypothesis_numpy.arrays("f8", (6, 2)),
    st.lists(st.text(max_size=3) | st.none(), min_size=6, max_size=6).map(lambda texts: np.array(texts, dtype=object)),
    st.lists(st.dictionaries(st.text(max_size=2), st.floats(), max_size=2), min_size=6, max_size=6),
    st.lists(st.integers(-(2**65), 2**65), min_size=6, max_size=6).map(lambda numbers: np.array(numbers, dtype=object)),
)


@given(tables(), features(), st.sampled_from(["jsonl", "csv", "parquet"]), predictions)
def test_columns_are_written_as_rows_are(content, wanted, kind, given_by_model):
    check_output(content, wanted, kind, given_by_model)


def check_output(content: bytes, wanted: list[Feature], kind: str, given_by_model: Any) -> None:
    parts = [part.part(0, min(6, len(part))) for part in read_at_once(content, wanted)]
    columns = [{"prediction": given_by_model[: len(part)]} for part in parts]
    by_columns = written(kind, [partial(part.write, columns=one) for part, one in zip(parts, columns, strict=True)])
    by_rows = written(
        kind,
        [partial(Objects(part.rows, part.places).write, columns=one) for part, one in zip(parts, columns, strict=True)],
    )
    assert by_columns == by_rows


def written(kind: str, parts: list[Callable[[Any], Mapping[int, str]]]) -> Any:
    """The bytes of a part and the rows that it has no place for, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part"
        try:
            with output_for(kind, path) as output:
                left_out = [write(output) for write in parts]
        except ArtifactCorrupt as error:
            return type(error)
        return path.read_bytes(), left_out


@given(st.lists(tables(), min_size=2, max_size=3), features())
def test_rows_of_several_files_are_those_of_each(contents, wanted):
    parts = [part for content in contents for part in read_at_once(content, wanted)]
    assume(parts)
    whole = together(parts)
    assert not isinstance(whole, Records)
    assert repr(whole.rows) == repr([row for part in parts for row in part.rows])
    assert list(whole.places) == [place for part in parts for place in part.places]
    half = len(whole) // 2
    assert list(whole.part(half, len(whole)).places) == list(whole.places)[half:]
