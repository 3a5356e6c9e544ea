"""Reads many rows of CSV at once, as columns of the features' types; each cell means what it means in `slices.py`.

Rows that the `csv` module may see otherwise than Arrow are left to it, and so are cells of which `value_of` knows more.
`tests/unit/server/test_batch_columns.py` compares the two ways.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from model_server.batch.chunks import Cells, Places
from model_server.batch.columns import Column
from model_server.batch.lines import Lines
from model_server.batch.slices import Text
from model_server.domain.features import Feature
from model_server.domain.tensors import Array
from model_server.inputs.text import value_of

if TYPE_CHECKING:
    import pyarrow as arrow

_QUOTE, _NEWLINE, _RETURN = b'"\n\r'
_TRUE, _FALSE = ["true", "True", "TRUE", "1"], ["false", "False", "FALSE", "0"]
_WHOLE = b"0123456789-"


def read_cells(text: Text, lines: Lines, count: int, features: Sequence[Feature]) -> Cells | None:
    """So many rows, or fewer, from where `lines` stand; None where they are to be read one by one."""
    content, starts = _rows(lines, count, ord(text.separator))
    if not len(starts):
        return None
    kinds = {feature.name: feature for feature in features}
    table = _table(content, text, {name: kinds.get(name) for name in text.names})
    if table is None or table.num_rows != len(starts):
        return None
    columns = {name: _column(table.column(name), kinds.get(name)) for name in text.names}
    places = Places(((text.piece.file.name, starts + lines.place),))
    lines.skip(len(content))
    return Cells(columns, places)


def _rows(lines: Lines, count: int, separator: int) -> tuple[bytes, Array]:
    """The next rows, of which each may have several lines, and where in them each begins; none where one is odd."""
    none, wanted = (b"", np.empty(0, np.int64)), count
    longest = csv.field_size_limit()
    while True:
        content, line_ends = lines.peek(wanted)
        ends = _row_ends(content, line_ends, separator)
        if not len(ends):
            return none
        is_open = len(content) - ends[-1] > longest
        if len(ends) >= count or len(line_ends) < wanted or is_open:
            break
        wanted += count - len(ends)
    ends = ends[:count]
    content = content[: ends[-1]]
    starts = np.concatenate(([0], ends[:-1]))
    sizes = ends - starts
    if sizes.max() > longest or content.startswith(codecs.BOM_UTF8):
        return none
    if b"\r" in content and content.count(b"\r") != content.count(b"\r\n"):
        return none
    first = np.frombuffer(content, np.uint8)[starts]
    is_blank = (first == _NEWLINE) | ((first == _RETURN) & (sizes == 2))
    return content, starts[~is_blank]


def _row_ends(content: bytes, ends: Array, separator: int) -> Array:
    """Those ends of lines that are ends of rows. None at all where a quote stands within a value."""
    if b'"' not in content:
        return ends
    data = np.frombuffer(content, np.uint8)
    quotes = np.flatnonzero(data == _QUOTE)
    opening, closing = quotes[::2], quotes[1::2]
    before = data[opening[opening > 0] - 1]
    after = data[closing[closing < len(data) - 1] + 1]
    # A quote that is doubled closes the value and opens it again.
    fits = np.isin(before, (separator, _NEWLINE, _QUOTE)).all()
    if not fits or not np.isin(after, (separator, _NEWLINE, _RETURN, _QUOTE)).all():
        return ends[:0]
    is_end: Array = np.searchsorted(quotes, ends) % 2 == 0
    return ends[is_end]


def _table(content: bytes, text: Text, kinds: dict[str, Feature | None]) -> arrow.Table | None:
    """The cells by column, numbers as such where all are; None where the rows are not as wide as the header."""
    import pyarrow as arrow
    from pyarrow import csv as arrow_csv

    reading = arrow_csv.ReadOptions(use_threads=False, block_size=len(content) + 1, column_names=list(kinds))
    parsing = arrow_csv.ParseOptions(delimiter=text.separator, newlines_in_values=True)
    plain = dict.fromkeys(kinds, arrow.string())
    typed = plain | {name: _type(feature) for name, feature in kinds.items()}
    for types in (typed, plain) if typed != plain else (plain,):
        converting = arrow_csv.ConvertOptions(
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            true_values=_TRUE,
            false_values=_FALSE,
        )
        try:
            table = arrow_csv.read_csv(arrow.BufferReader(content), reading, parsing, converting)
        except arrow.ArrowInvalid:
            continue
        if all(map(_is_finite, table.columns)):
            return table
    return None


def _is_finite(column: arrow.Array | arrow.ChunkedArray) -> bool:
    """Whether a column has no number that is none: Arrow knows more of such words than Python."""
    if str(column.type) != "double":
        return True
    return bool(np.isfinite(column.drop_null().to_numpy() if column.null_count else column.to_numpy()).all())


def _type(feature: Feature | None) -> arrow.DataType:
    import pyarrow as arrow

    if feature is None or feature.dtype == "string" or feature.is_time or feature.is_integer:
        return arrow.string()  # Arrow would read 0x10 as a whole number
    return arrow.bool_() if feature.dtype == "bool" else arrow.float64()


def _column(read: arrow.ChunkedArray, feature: Feature | None) -> Column:
    """A column as `value_of` would have its cells."""
    import pyarrow as arrow

    cells = read.combine_chunks()
    if not arrow.types.is_string(cells.type):
        return cells
    if feature is None or (feature.dtype == "string" and not feature.nullable):
        return cells.fill_null("") if cells.null_count else cells
    if feature.dtype == "string" or feature.is_time:
        return cells
    try:
        if feature.is_integer and _is_whole(cells):
            return cells.cast(arrow.int64())
        if not feature.is_integer and feature.dtype != "bool" and _is_finite(numbers := cells.cast(arrow.float64())):
            return numbers
    except arrow.ArrowInvalid:
        pass
    return [value_of(cell or "", feature) for cell in cells.to_pylist()]


def _is_whole(cells: arrow.Array) -> bool:
    """Whether all cells are digits, with a sign or without."""
    content = cells.buffers()[2]
    return content is not None and not content.to_pybytes().translate(None, _WHOLE)
