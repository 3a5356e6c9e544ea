"""How good a model is for each group of the rows: counts that grow chunk by chunk, and the metrics made of them.

`evaluate.py` calls it for `--groups`. The metrics are those of fairlearn (https://fairlearn.org), computed from one
weighted row for each group, label and prediction, so that memory does not grow with the data set. Intervals are
Wilson's (1927).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_server.batch.reader import Row
from model_server.errors import DatasetInvalid, DependencyMissing
from model_server.offline_metrics import DIFFERENCES, GROUP_METRICS, Places, RegressionMetrics, plain_text

SELECTION_RATE, EQUAL_OPPORTUNITY, EQUALIZED_ODDS, WORST_ACCURACY = GROUP_METRICS
MOST_COLUMNS = 4
MOST_GROUPS = 32
#: Bounds of what goes into the termination message, which has 4096 bytes.
_MOST_SHOWN, _MOST_NOTES, _LONGEST_NAME = 12, 4, 64
#: An accuracy is known well enough when its interval is this wide on either side.
_MARGIN = 0.05
#: Rows of its own that weigh as much as the accuracy of all rows, when that of a group is guessed.
_PRIOR_ROWS = 20
_Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations

Cell = tuple[str, int, int]


@dataclass(slots=True)
class _Column:
    """Rows by group: counts by (group, label, prediction) of classes, or sums of numbers."""

    name: str
    cells: dict[Cell, int] = field(default_factory=dict)
    numbers: dict[str, RegressionMetrics] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)


class GroupMetrics:
    """Quality by the groups of some columns; a metric over several columns is its worst value."""

    def __init__(self, columns: Sequence[str], names: Sequence[str], *, answers_numbers: bool) -> None:
        """Prepare; of `names`, what was asked for, this computes those of GROUP_METRICS.

        Raises:
            DatasetInvalid: a metric needs groups and no column is named, or there are too many.
        """
        self._asked = [name for name in names if name in GROUP_METRICS]
        self._answers_numbers = answers_numbers
        self._columns = [_Column(name) for name in columns]
        self._classes = 0
        if self._asked and not columns:
            raise DatasetInvalid(
                f"{self._asked[0]} compares groups, and no column is named",
                hint="Name the columns with the groups: groups: [sex] in the step, --groups sex here.",
            )
        if len(columns) > MOST_COLUMNS:
            raise DatasetInvalid(f"{len(columns)} columns of groups are named, and {MOST_COLUMNS} are the most")

    def add(self, rows: Sequence[Row], places: Places, predictions: Sequence[Any], labels: Sequence[Any]) -> None:
        """Count some rows. Raises DatasetInvalid that names a column which is missing or has too many groups."""
        for column in self._columns:
            for index, row in enumerate(rows):
                group = _group_of(row, column.name)
                column.groups.add(group)
                if len(column.groups) > MOST_GROUPS:
                    raise DatasetInvalid(
                        f"the column {column.name!r} has more than {MOST_GROUPS} values, which are too many groups",
                        hint="Name a column of few values; put numbers such as an age into bins first.",
                    )
                if self._answers_numbers:
                    sums = column.numbers.setdefault(group, RegressionMetrics())
                    sums.add([predictions[index]], [labels[index]], None)
                else:
                    cell = (group, *places[index])
                    column.cells[cell] = column.cells.get(cell, 0) + 1

    def close(self, order: Sequence[int]) -> None:
        """Take the places of the classes in their order, after the last row.

        Raises:
            DatasetInvalid: a difference was asked for, and there are not two classes.
        """
        self._classes = len(order)
        rank = {place: number for number, place in enumerate(order)}
        for column in self._columns:
            cells = column.cells.items()
            column.cells = {(group, rank[label], rank[answer]): count for (group, label, answer), count in cells}
        differences = [name for name in self._asked if name in DIFFERENCES]
        if differences and self._classes != 2:
            raise DatasetInvalid(
                f"{differences[0]} needs two classes, the second of which is the positive one; there are"
                f" {self._classes}",
                hint=f"Write {WORST_ACCURACY} for more classes, and mse, mae or r2 for a model that answers numbers.",
            )

    @property
    def is_empty(self) -> bool:
        """Whether no column is named."""
        return not self._columns

    def metrics(self) -> Mapping[str, float]:
        """The metrics of GROUP_METRICS that were asked for. Raises DatasetInvalid for a group without the rows."""
        found: dict[str, float] = {}
        for column in self._columns:
            for name in self._asked:
                value = _metric(name, column)
                worst = min if name == WORST_ACCURACY else max
                found[name] = worst(value, found.get(name, value))
        return found

    def shown(self) -> dict[str, dict[str, dict[str, float]]]:
        """Quality by column and group, at most `_MOST_SHOWN` groups in all, the worst ones first."""
        tables = [
            (column.name, group, values)
            for column in self._columns
            for group, values in (_numbers(column) if self._answers_numbers else self._table(column)).items()
        ]
        tables.sort(key=lambda one: one[2].get("accuracy", -one[2].get("mae", 0.0)))
        found: dict[str, dict[str, dict[str, float]]] = {}
        for column, group, values in tables[:_MOST_SHOWN]:
            found.setdefault(column[:_LONGEST_NAME], {})[group] = {k: round(v, 4) for k, v in values.items()}
        return found

    def notes(self) -> list[str]:
        """A sentence for each group that has too few rows to say much, the smallest first."""
        if self._answers_numbers:
            return []
        small = []
        for column in self._columns:
            counted = _counted(column)
            right, total = (sum(pair[place] for pair in counted.values()) for place in (0, 1))
            needed = {group: rows_needed(*pair, overall=right / total) for group, pair in counted.items()}
            small += [
                (rows, column.name, group, needed[group])
                for group, (_, rows) in counted.items()
                if rows < needed[group]
            ]
        return [
            f"{column[:_LONGEST_NAME]}={group} has {rows} row{'' if rows == 1 else 's'}: to know its accuracy to within"
            f" {_MARGIN:g} it needs about {needed - rows} more"
            for rows, column, group, needed in sorted(small)[:_MOST_NOTES]
        ]

    def _table(self, column: _Column) -> Mapping[str, dict[str, float]]:
        counted = _counted(column)
        found = {}
        for group, values in _frame(column, is_binary=self._classes == 2).items():
            right, rows = counted[group]
            low, high = wilson(right, rows)
            found[group] = {"rows": rows, "accuracy": values.pop("accuracy"), "low": low, "high": high, **values}
        return found


def wilson(successes: float, count: float) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson (1927): honest at the ends of the scale, and for few rows."""
    if not count:
        return 0.0, 1.0
    share, spread = successes / count, _Z**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def rows_needed(right: float, count: float, *, overall: float) -> int:
    """Return about how many rows a group needs for an interval of `_MARGIN` on either side of its accuracy.

    That of all rows is expected of it until its own rows say otherwise.
    """
    expected = (right + _PRIOR_ROWS * overall) / (count + _PRIOR_ROWS)
    # A model that was right on all rows is not known to be so: as if one in twenty were wrong.
    share = min(max(expected, 0.05), 0.95)
    return math.ceil(_Z**2 * share * (1 - share) / _MARGIN**2)


def _group_of(row: Row, column: str) -> str:
    if column not in row:
        near = difflib.get_close_matches(column, row, n=3)
        raise DatasetInvalid(
            f"the data set has no column {column!r} for groups; its columns: {', '.join(map(str, row))}",
            hint=f"Did you mean {' or '.join(map(repr, near))}?"
            if near
            else "Name a column with the group of each row.",
        )
    value = row[column]
    is_missing = value is None or value == "" or (isinstance(value, float) and math.isnan(value))
    group = "(missing)" if is_missing else plain_text(value)
    if len(group) > _LONGEST_NAME:
        raise DatasetInvalid(
            f"the column {column!r} has a value of {len(group)} characters, and a group has at most {_LONGEST_NAME}",
            hint="Name a column of short values.",
        )
    return group


def _counted(column: _Column) -> dict[str, tuple[int, int]]:
    """Right answers and all rows, by group."""
    found = dict.fromkeys(sorted(column.groups), (0, 0))
    for (group, label, prediction), count in column.cells.items():
        right, rows = found[group]
        found[group] = right + count * (label == prediction), rows + count
    return found


def _metric(name: str, column: _Column) -> float:
    if name == WORST_ACCURACY:
        return min(right / rows for right, rows in _counted(column).values())
    needed = {EQUAL_OPPORTUNITY: (1,), EQUALIZED_ODDS: (1, 0)}.get(name, ())
    for label in needed:
        for group in sorted(column.groups):
            if not any(cell[0] == group and cell[1] == label for cell in column.cells):
                kind = "positive" if label else "negative"
                raise DatasetInvalid(
                    f"{name}: the group {column.name}={group} has no row whose true answer is the {kind} class",
                    hint="Add such rows, put the group together with another, or leave its rows or the metric out.",
                )
    fairlearn = _fairlearn()
    compute = {
        SELECTION_RATE: fairlearn.demographic_parity_difference,
        EQUAL_OPPORTUNITY: fairlearn.equal_opportunity_difference,
        EQUALIZED_ODDS: fairlearn.equalized_odds_difference,
    }[name]
    groups, labels, predictions, counts = _arrays(column)
    return float(compute(labels, predictions, sensitive_features=groups, sample_weight=counts))


def _frame(column: _Column, *, is_binary: bool) -> dict[str, dict[str, float]]:
    """Metrics of a classifier by group, as fairlearn's MetricFrame has them."""
    from sklearn.metrics import accuracy_score, f1_score, precision_score

    fairlearn = _fairlearn()
    measures: dict[str, Any] = {"accuracy": accuracy_score}
    parameters: dict[str, dict[str, Any]] = {}
    groups, labels, predictions, counts = _arrays(column)
    if is_binary:
        measures |= {
            "selectionRate": fairlearn.selection_rate,
            "truePositiveRate": lambda *a, **k: fairlearn.true_positive_rate(*a, pos_label=1, **k),
            "falsePositiveRate": lambda *a, **k: fairlearn.false_positive_rate(*a, pos_label=1, **k),
            "precision": lambda *a, **k: precision_score(*a, zero_division=0.0, **k),
            "f1": lambda *a, **k: f1_score(*a, zero_division=0.0, **k),
        }
    parameters = {name: {"sample_weight": counts} for name in measures}
    frame = fairlearn.MetricFrame(
        metrics=measures, y_true=labels, y_pred=predictions, sensitive_features=groups, sample_params=parameters
    )
    return {str(group): dict(row) for group, row in frame.by_group.to_dict("index").items()}


def _arrays(column: _Column) -> tuple[list[str], list[int], list[int], list[int]]:
    """One weighted row for each cell: groups, labels, predictions, counts."""
    cells = sorted(column.cells.items())
    groups, labels, predictions = (list(part) for part in zip(*(cell for cell, _ in cells), strict=True))
    return groups, labels, predictions, [count for _, count in cells]


def _numbers(column: _Column) -> dict[str, dict[str, float]]:
    return {group: {"rows": sums.rows, **sums.metrics()} for group, sums in sorted(column.numbers.items())}


def _fairlearn() -> Any:
    try:
        import fairlearn.metrics
    except ModuleNotFoundError:
        raise DependencyMissing(
            "quality by group needs fairlearn, which is not installed", hint="Install modeldeploy[server-fairness]."
        ) from None
    return fairlearn.metrics
