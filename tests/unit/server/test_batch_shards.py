"""Which rows a shard has: each row is in one shard, whatever the files and their sizes."""

from __future__ import annotations

import io

import pytest

from model_server.batch.plan import Plan, Wanted, shard_of
from model_server.batch.slices import read_piece
from model_server.batch.source import InputFile


def a_plan(*files: InputFile, shards: int, split: bool = True) -> Plan:
    wanted = Wanted(
        id="",
        input="s3://b/in",
        input_format="auto",
        split=split,
        shards=shards,
        output_format="jsonl",
        on_bad_row="fail",
        probabilities=False,
    )
    return Plan(wanted=wanted, model_sha256="", files=files)


def shape(plan: Plan) -> list[list[tuple[str, int, int] | tuple[str, tuple[int, ...]]]]:
    return [
        [
            (piece.file.name, piece.groups) if piece.format == "parquet" else (piece.file.name, piece.start, piece.end)
            for piece in shard_of(plan, index)
        ]
        for index in range(plan.wanted.shards)
    ]


A, B = InputFile("a.csv", 100, ""), InputFile("b.csv", 50, "")
ZIP, ARRAY = InputFile("a.csv.gz", 100, ""), InputFile("a.json", 100, "")
GROUPS = InputFile("a.parquet", 1000, "", (10, 10, 80))


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        pytest.param(a_plan(A, shards=1), [[("a.csv", 0, 100)]], id="one shard has all"),
        pytest.param(a_plan(A, shards=3), [[("a.csv", 0, 33)], [("a.csv", 33, 66)], [("a.csv", 66, 100)]], id="thirds"),
        pytest.param(
            a_plan(A, B, shards=2), [[("a.csv", 0, 75)], [("a.csv", 75, 100), ("b.csv", 0, 50)]], id="across files"
        ),
        pytest.param(a_plan(A, B, shards=2, split=False), [[("a.csv", 0, 100)], [("b.csv", 0, 50)]], id="whole files"),
        pytest.param(
            a_plan(ZIP, B, shards=2), [[("a.csv.gz", 0, 100)], [("b.csv", 0, 50)]], id="a compressed file is in one"
        ),
        pytest.param(a_plan(ARRAY, shards=3), [[("a.json", 0, 100)], [], []], id="an array is in one"),
        pytest.param(
            a_plan(InputFile("a.csv", 2, ""), shards=4),
            [[], [("a.csv", 0, 1)], [], [("a.csv", 1, 2)]],
            id="fewer bytes than shards",
        ),
        pytest.param(
            a_plan(GROUPS, shards=2), [[("a.parquet", (0, 1, 2))], []], id="a row group is where its first row is"
        ),
        pytest.param(
            a_plan(GROUPS, shards=10),
            [[("a.parquet", (0,))], [("a.parquet", (1,))], [("a.parquet", (2,))], *([[]] * 7)],
            id="a large row group is not divided",
        ),
        pytest.param(a_plan(InputFile("a.parquet", 9, "", ()), shards=2), [[], []], id="a table without rows"),
    ],
)
def test_a_shard_has_an_equal_share_of_the_bytes(plan, expected):
    assert shape(plan) == expected


TABLES = {
    "lines of equal length": b"a\n" + b"".join(b"%d\n" % (n % 10) for n in range(40)),
    "lines of all lengths": b"a\n" + b"".join(b"1" * (n % 17 + 1) + b"\n" for n in range(60)),
    "one long line": b"a\n1\n" + b"2" * 500 + b"\n3\n",
    "no line end at the end": b"a\n1\n2\n3",
    "line ends of Windows": b"a\r\n1\r\n22\r\n333\r\n",
    "a mark of byte order": b"\xef\xbb\xbfa\n1\n2\n3\n",
    "empty lines": b"a\n\n1\n\n\n2\n",
    "a header and no row": b"a\n",
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("shards", [1, 2, 3, 7, 64])
def test_each_row_is_in_one_shard(name, shards):
    content = TABLES[name]
    file = InputFile("in.csv", len(content), "")

    def rows(count: int) -> list[str]:
        plan = a_plan(file, shards=count)
        found = []
        for index in range(count):
            for piece in shard_of(plan, index):
                found += [record.row["a"] for record in read_piece(piece, io.BytesIO(content), ())]
        return found

    assert rows(shards) == rows(1)
    assert len(rows(1)) == len([line for line in content.split(b"\n")[1:] if line.strip()])


@pytest.mark.parametrize("shards", range(1, 12))
def test_each_row_group_is_in_one_shard(shards):
    files = (InputFile("a.parquet", 700, "", (5, 1, 9)), InputFile("b.parquet", 10, "", (100,)), GROUPS)
    found = [
        (one, group) for pieces in shape(a_plan(*files, shards=shards)) for one, groups in pieces for group in groups
    ]
    assert found == [(file.name, group) for file in files for group in range(3) if group < len(file.rows)]
