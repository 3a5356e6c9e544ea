"""Counts and sums of labelled answers, as servers count them and `policy.analysis.feedback_test` judges them."""

from dataclasses import dataclass


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
