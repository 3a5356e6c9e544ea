"""Counts and sums of labelled answers, as servers count them and `policy.analysis.feedback_test` judges them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class SumStats:
    """Number of labelled answers, and the sums of their loss and of its square."""

    count: float = 0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: "SumStats") -> "SumStats":
        return SumStats(
            count=self.count + other.count, total=self.total + other.total, squares=self.squares + other.squares
        )

    def __sub__(self, other: "SumStats") -> "SumStats":
        return SumStats(
            count=self.count - other.count, total=self.total - other.total, squares=self.squares - other.squares
        )

    @property
    def mean(self) -> float:
        """Mean loss; 0 without answers."""
        return self.total / self.count if self.count else 0.0

    @property
    def variance(self) -> float:
        """Variance of the loss of one answer, always above 0: computed with one more answer that is half a unit off."""
        if not self.count:
            return 0.25
        return max(self.squares / self.count - self.mean**2, 0.0) + 0.25 / self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceCounts:
    """Answers of one group of a slice.

    `tp`, `fp`, `fn` and `tn` are labelled answers of a model of two classes by label and prediction, `right` and
    `mistaken` those of more classes; `positive` and `negative` are predictions.
    """

    tp: float = 0
    fp: float = 0
    fn: float = 0
    tn: float = 0
    right: float = 0
    mistaken: float = 0
    positive: float = 0
    negative: float = 0

    def __add__(self, other: "SliceCounts") -> "SliceCounts":
        return SliceCounts.from_list([a + b for a, b in zip(self.to_list(), other.to_list(), strict=True)])

    def since(self, before: "SliceCounts") -> "SliceCounts":
        """Return the increase since an earlier sample; a count that went back has none."""
        pairs = zip(self.to_list(), before.to_list(), strict=True)
        return SliceCounts.from_list([max(after - earlier, 0) for after, earlier in pairs])

    @property
    def answers(self) -> float:
        """Labelled answers."""
        return self.tp + self.fp + self.fn + self.tn + self.right + self.mistaken

    @property
    def wrong(self) -> float:
        """Labelled answers that were wrong."""
        return self.fp + self.fn + self.mistaken

    @property
    def selected(self) -> tuple[float, float]:
        """Positive predictions, and all predictions."""
        return self.positive, self.positive + self.negative

    @property
    def true_positives(self) -> tuple[float, float]:
        """Positive predictions among positive labels, and these."""
        return self.tp, self.tp + self.fn

    @property
    def false_positives(self) -> tuple[float, float]:
        """Positive predictions among negative labels, and these."""
        return self.fp, self.fp + self.tn

    def to_list(self) -> list[float]:
        """Return the counts in the order of the fields."""
        return [getattr(self, one.name) for one in fields(self)]

    @classmethod
    def from_list(cls, counts: Sequence[float]) -> "SliceCounts":
        """Restore what `to_list` returned."""
        return cls(**{one.name: count for one, count in zip(fields(cls), counts, strict=True)})
