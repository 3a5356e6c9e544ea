"""How much the requests of one interval depend on each other; `input_test` and `rate_test` use it.

The requests of one client are alike, and its connection may lead to one revision for a while. With d_i the difference
of the shares of bad requests (canary minus stable) in the closed interval i, n_c and n_s its requests and
w_i = n_c n_s / (n_c + n_s) its weight, S = sum w_i d_i has two variances: V0 = sum w_i^2 (v_c / n_c + v_s / n_s) if
requests are independent, and V1 = sum w_i^2 (d_i - d)^2, as it was seen from interval to interval, whatever depends on
what inside of one (the cluster-robust variance of Liang and Zeger, 1986). The larger one counts, V1 with an allowance
for its own error of two standard deviations, by the effective number of intervals k = (sum w_i)^2 / sum w_i^2. Pure.
"""

import math
from dataclasses import dataclass

from model_operator.api.sums import SumStats

#: Effective number of intervals before which V1 says nothing.
MIN_INTERVALS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Requests and bad ones among them, of both revisions, in one closed interval."""

    canary: int = 0
    canary_bad: int = 0
    stable: int = 0
    stable_bad: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            canary=self.canary + other.canary,
            canary_bad=self.canary_bad + other.canary_bad,
            stable=self.stable + other.stable,
            stable_bad=self.stable_bad + other.stable_bad,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Sums over the intervals: w, w^2, w d, w^2 d, w^2 d^2, w^2/n_c and w^2/n_s."""

    sums: tuple[float, ...] = (0.0,) * 7

    def plus(self, counts: Counts) -> "Spread":
        """Return the sums with one more interval; a difference needs requests of both revisions."""
        n, m = counts.canary, counts.stable
        if not (n and m):
            return self
        w, d = n * m / (n + m), counts.canary_bad / n - counts.stable_bad / m
        more = (w, w**2, w * d, w**2 * d, (w * d) ** 2, w**2 / n, w**2 / m)
        return Spread(sums=tuple(old + new for old, new in zip(self.sums, more, strict=True)))

    @property
    def intervals(self) -> float:
        """The effective number of intervals."""
        return self.sums[0] ** 2 / self.sums[1] if self.sums[1] else 0.0

    def independent(self, total: Counts) -> float:
        """Return V0, with the requests of all intervals."""
        canary_spread, stable_spread = self.sums[5:]
        return canary_spread * _variance(total.canary_bad, total.canary) + stable_spread * _variance(
            total.stable_bad, total.stable
        )

    def variance(self, total: Counts) -> float:
        """Return the larger one of V0 and V1 with its allowance; it needs more than one effective interval."""
        weight, squares, difference, squares_d, squares_dd = self.sums[:5]
        mean, k = difference / weight, self.intervals
        seen = max(squares_dd - 2 * mean * squares_d + mean**2 * squares, 0.0) * k / (k - 1)
        return max(self.independent(total), seen * (1 + 2 * math.sqrt(2 / (k - 1))))


def _variance(bad: int, requests: int) -> float:
    return SumStats(count=requests, total=bad, squares=bad).variance
