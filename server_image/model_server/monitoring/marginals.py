"""How far a row is from the training data, by what the reference profile says of each feature. Pure NumPy.

The distance is the score of ECOD (Li et al., 2022, "ECOD: Unsupervised Outlier Detection Using Empirical Cumulative
Distribution Functions", https://arxiv.org/abs/2201.00382): the sum over the features of -log of the tail probability,
for left tails, right tails, and the tail on the side of each feature's skew; the largest of the three counts. It
needs the distribution of each feature alone, which is all that a profile has, no distance between units, and no
parameter to tune. A category counts by its frequency. The probabilities are those of bins: within a bin all
values are equally far, because nothing finer is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from model_server.domain.features import Feature, ReferenceFeature
from model_server.domain.tensors import Array

#: Share of the rows of the training data that are above the threshold.
RARE = 0.001
SIMULATED_ROWS = 20_000
# The correlation of numeric features where the package does not say it. Rows of independent features are rarely far in
# many features at once, and rows of real tables are: with independent features a quarter of the rows of scikit-learn's
# breast cancer data, fresh ones, would be outliers, and with this correlation none.
CORRELATION = 0.3
_SEED = 20_221


@dataclass(frozen=True, slots=True)
class Marginal:
    """One feature's distribution as cells: below the range, bins, above it, missing; or categories, others, missing.

    Attributes:
        shares: expected share of each cell among values that are present, shape (cells - 1,), in all 1. Cells beyond
            the training data have the share that one more row would give them.
        missing: share of missing values; None where the profile does not say it.
        scores: contribution of each cell to the three sums of a row, shape (3, cells).
    """

    edges: Array
    categories: tuple[object, ...]
    shares: Array
    missing: float | None
    scores: Array

    @classmethod
    def of(cls, feature: Feature, reference: ReferenceFeature) -> Marginal:
        """The distribution that a profile describes. Raises ValueError for a profile without any count."""
        given = reference.categories
        counts = np.array(list(given.values()) if given is not None else reference.counts, dtype=np.float64)
        total = counts.sum()
        if not total:
            raise ValueError(f"counts no value of {feature.name!r}")
        if given is not None:
            # Good and Turing: values that are new come as often as values that came once.
            shares = np.append(counts, 1 + np.count_nonzero(counts == 1))
            shares = shares / shares.sum()
            tails = -np.log(np.maximum(shares, 1 / (total + 1)))
            sides = np.stack([tails] * 3)
        else:
            # Of all n + 1 orders of the n values and one more, it is the smallest in one.
            shares = np.concatenate([[1.0], counts, [1.0]]) / (total + 2)
            left, right = -np.log(np.cumsum(shares)), -np.log(np.cumsum(shares[::-1])[::-1])
            sides = np.stack([left, right, left if _skew(np.array(reference.edges), counts) < 0 else right])
        missing = None if reference.missing is None else (reference.missing + 1) / (total + reference.missing + 2)
        # Where nothing is known of missing values they are neither near nor far.
        far = 0.0 if missing is None else -math.log(missing)
        return cls(
            edges=np.array(reference.edges or (), dtype=np.float64),
            categories=tuple(feature.value_of(text) for text in given) if given is not None else (),
            shares=shares,
            missing=missing,
            scores=np.column_stack([sides, np.full((3, 1), far)]),
        )

    @property
    def is_numeric(self) -> bool:
        """Whether it has edges."""
        return len(self.edges) > 0

    @property
    def strange_share(self) -> float:
        """Share of values of the training data that are outside of its range, or are none of its categories."""
        return float(self.shares[0] + self.shares[-1]) if self.is_numeric else float(self.shares[-1])

    def cells(self, values: Array) -> Array:
        """The cell of each value, shape (rows,)."""
        missing = is_missing(values)
        last = len(self.shares)
        if not self.is_numeric:
            found = np.full(len(values), last - 1)
            for place, category in enumerate(self.categories):
                found[values == category] = place
        else:
            numbers = as_numbers(values)
            found = np.searchsorted(self.edges[1:-1], numbers, side="right") + 1
            found[numbers < self.edges[0]] = 0
            # What is no number, in a column of anything, has no place in the range.
            found[(numbers > self.edges[-1]) | np.isnan(numbers)] = last - 1
        found[missing] = last
        return found

    def is_strange(self, cells: Array) -> Array:
        """Which cells are outside of the range, or none of the categories, shape (rows,)."""
        last = len(self.shares) - 1
        strange: Array = (cells == last) | (cells == 0) if self.is_numeric else cells == last
        return strange


def is_missing(values: Array) -> Array:
    """Which values are null, shape (rows,)."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind == "M":
        return np.isnat(values)
    if values.dtype.kind == "O":
        return np.array([value is None or value != value for value in values.tolist()], dtype=bool)
    return np.zeros(len(values), dtype=bool)


def as_numbers(values: Array) -> Array:
    """Values as floats, NaN for what is no number."""
    if values.dtype.kind != "O":
        return values.astype(np.float64)
    return np.array([value if type(value) in (int, float) else np.nan for value in values.tolist()], dtype=np.float64)


def distances(sums: Array) -> Array:
    """The rows' distances from their three sums, shape (3, rows)."""
    largest: Array = sums.max(axis=0)
    return largest


def threshold(marginals: list[Marginal], correlation: float | None = None) -> float:
    """The distance that `RARE` of the training data's rows exceed.

    It is the quantile of simulated rows, which have each feature's distribution and a common correlation of the numeric
    ones (a Gaussian copula with one factor): a profile does not say how features go together. The seed is fixed, so
    that all workers and pods agree.

    Args:
        correlation: that of the training data, from 0 to below 1 (`reference_correlation` of the package);
            `CORRELATION` where it is not known.
    """
    correlation = CORRELATION if correlation is None else correlation
    random = np.random.default_rng(_SEED)
    factor = random.normal(size=SIMULATED_ROWS)
    sums = np.zeros((3, SIMULATED_ROWS))
    for marginal in marginals:
        sums += marginal.scores[:, _simulated(marginal, factor, correlation, random)]
    return float(np.quantile(distances(sums), 1 - RARE))


def _simulated(marginal: Marginal, factor: Array, correlation: float, random: np.random.Generator) -> Array:
    shares = np.cumsum(marginal.shares)[:-1]
    own = random.normal(size=SIMULATED_ROWS)
    if marginal.is_numeric:
        own = math.sqrt(correlation) * factor + math.sqrt(1 - correlation) * own
    cells = np.searchsorted(np.quantile(own, shares), own, side="right")
    if marginal.missing:
        cells[random.random(SIMULATED_ROWS) < marginal.missing] = len(marginal.shares)
    return cells


def _skew(edges: Array, counts: Array) -> float:
    """The third central moment of a histogram: its sign is the side of the long tail."""
    middles = (edges[1:] + edges[:-1]) / 2
    return float(np.average((middles - np.average(middles, weights=counts)) ** 3, weights=counts))
