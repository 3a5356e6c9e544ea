"""Quality by group: of each revision by what its pods count (`spec.monitoring.slices`), and of an evaluation. PURE."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modeldeploy.dashboard.exposition import Series
from modeldeploy.groups import GroupShare, answers_needed, group_shares

Body = Mapping[str, Any]

_ANSWERS, _PREDICTIONS = "modeldeploy_slice_answers_total", "modeldeploy_slice_predictions_total"


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRow:
    """One group in one revision. `selected` is the share of positive predictions; None where there are not two
    classes."""

    revision: str
    accuracy: GroupShare
    selected: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceTable:
    """One slice: its groups, each with the revisions beside each other."""

    name: str
    rows: Sequence[SliceRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedGroup:
    """One group of an evaluation: values by metric, and for an accuracy its interval and what the group lacks."""

    column: str
    group: str
    rows: int
    values: Sequence[tuple[str, float]]
    interval: tuple[float, float] | None
    lacks: int


def slices_of(answers: Sequence[tuple[str, Sequence[Series]]]) -> list[SliceTable]:
    """Return a table for each slice, sums over the pods of each revision.

    Args:
        answers: what each pod says, with its revision.
    """
    right: dict[tuple[str, str, str], float] = defaultdict(float)
    count: dict[tuple[str, str, str], float] = defaultdict(float)
    predicted: dict[tuple[str, str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for revision, series in answers:
        for one in series:
            key = one.labels.get("slice", ""), revision, one.labels.get("group", "")
            if one.name == _ANSWERS:
                count[key] += one.value
                right[key] += one.value if _is_right(one.labels) else 0
            elif one.name == _PREDICTIONS:
                predicted[key][one.labels.get("prediction", "")] += one.value
    tables: dict[str, list[SliceRow]] = defaultdict(list)
    for name, revision in sorted({key[:2] for key, total in count.items() if total}):
        own = {
            key[2]: (right[key] / total, int(total))
            for key, total in count.items()
            if key[:2] == (name, revision) and total
        }
        for group, share in group_shares(own).items():
            selected = _selected(predicted.get((name, revision, group), {}))
            tables[name].append(SliceRow(revision=revision, accuracy=share, selected=selected))
    return [SliceTable(name=name, rows=_side_by_side(rows)) for name, rows in tables.items()]


def _is_right(labels: Mapping[str, str]) -> bool:
    return labels.get("prediction") in ("right", labels.get("label"))


def _selected(predicted: Mapping[str, float]) -> float | None:
    total = sum(predicted.values())
    return predicted.get("positive", 0.0) / total if total else None


def _side_by_side(rows: Sequence[SliceRow]) -> list[SliceRow]:
    """Return the rows by group, that group first in which a revision is worst."""
    worst: dict[str, float] = {}
    for row in rows:
        worst[row.accuracy.group] = min(worst.get(row.accuracy.group, 1.0), row.accuracy.value)
    return sorted(rows, key=lambda row: (worst[row.accuracy.group], row.accuracy.group))


def evaluated_of(evaluation: Body) -> list[EvaluatedGroup]:
    """Return the groups of `status.evaluation`, as it orders them."""
    found: list[EvaluatedGroup] = []
    for column, groups in (evaluation.get("groups") or {}).items():
        total = sum(values.get("rows") or 0 for values in groups.values())
        overall = sum((values.get("accuracy") or 0) * (values.get("rows") or 0) for values in groups.values())
        found += [_evaluated(column, group, values, overall / (total or 1)) for group, values in groups.items()]
    return found


def _evaluated(column: str, group: str, values: Body, overall: float) -> EvaluatedGroup:
    rows, has_accuracy = int(values.get("rows") or 0), values.get("accuracy") is not None
    shown = [(str(name), float(value)) for name, value in values.items() if value is not None]
    return EvaluatedGroup(
        column=str(column),
        group=str(group),
        rows=rows,
        values=[(name, value) for name, value in shown if name not in ("rows", "low", "high")],
        interval=(float(values["low"]), float(values["high"])) if has_accuracy else None,
        lacks=max(answers_needed(values["accuracy"], rows, overall=overall) - rows, 0) if has_accuracy else 0,
    )
