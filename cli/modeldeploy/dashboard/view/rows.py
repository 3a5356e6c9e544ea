"""One row of the list: a summary with its pods and rates. PURE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modeldeploy.dashboard.view.pods import Pod, ready_of
from modeldeploy.dashboard.view.rates import Rate, Ring, Sparkline, sparkline
from modeldeploy.dashboard.view.summary import Attention, Rank, Summary

#: Names of drifted features that a row shows.
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionCell:
    """One revision in the list: its role, and how many of its pods are ready."""

    role: str
    revision: str
    ready: int
    pods: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the list shows of one model. `sort` puts those first that need attention."""

    summary: Summary
    attention: tuple[Attention, ...]
    revisions: tuple[RevisionCell, ...]
    rate: Rate | None
    spark: Sparkline | None

    @property
    def sort(self) -> str:
        """A text by which rows are ordered, here and in the browser."""
        rank = self.attention[0].rank if self.attention else Rank.NONE
        return f"{rank:d}/{self.summary.namespace}/{self.summary.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What the list is limited to; empty fields limit nothing. `label` is `key` or `key=value`."""

    name: str = ""
    namespace: str = ""
    phase: str = ""
    label: str = ""

    def takes(self, row: Row) -> bool:
        """Whether a row is shown. `phase` may be Attention, for all that need it."""
        one = row.summary
        key, has_value, value = self.label.strip().partition("=")
        labels: Mapping[str, str] = dict(one.labels)
        return (
            self.name.strip().lower() in one.name.lower()
            and self.namespace in ("", one.namespace)
            and (self.phase in ("", one.phase) or (self.phase == "Attention" and bool(row.attention)))
            and (not key or (key in labels and (not has_value or labels[key] == value)))
        )


def row_of(summary: Summary, pods: Sequence[Pod], ring: Ring | None) -> Row:
    """Return the row of one model."""
    rates = list(ring.rates) if ring else []
    drifted = ring.drifted if ring else ()
    attention = summary.attention
    if drifted:
        attention = (*attention, Attention(Rank.DRIFTING, "Drifting", _drifted(drifted)))
    cells = [("stable", summary.stable), ("canary", summary.canary)]
    return Row(
        summary=summary,
        attention=tuple(sorted(attention, key=lambda one: one.rank)),
        revisions=tuple(_cell(role, revision, pods) for role, revision in cells if revision),
        rate=rates[-1] if rates else None,
        spark=sparkline(rates),
    )


def _cell(role: str, revision: str, pods: Sequence[Pod]) -> RevisionCell:
    ready, there = ready_of(pods, revision)
    return RevisionCell(role=role, revision=revision, ready=ready, pods=there)


def _drifted(features: Sequence[str]) -> str:
    more = f" and {len(features) - _SHOWN} more" if len(features) > _SHOWN else ""
    return f"Inputs differ from the reference: {', '.join(features[:_SHOWN])}{more}."


@dataclass(frozen=True, slots=True)
class Totals:
    """What the head of the list counts."""

    all: int
    attention: int
    rolling: int
    healthy: int


def totals_of(rows: Sequence[Row]) -> Totals:
    """Count the models, those that need attention, those in a rollout, and those that are healthy."""
    return Totals(
        all=len(rows),
        attention=sum(bool(row.attention) for row in rows),
        rolling=sum(bool(row.summary.canary) for row in rows),
        healthy=sum(row.summary.phase == "Healthy" and not row.attention for row in rows),
    )
