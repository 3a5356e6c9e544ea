"""Distances between two distributions over the same bins. Pure; `drift.py` uses them.

PSI and its rule of thumb (0.1 a small, 0.2 a considerable shift) are from credit scoring: N. Siddiqi, Credit Risk
Scorecards, 2006; its statistics: B. Yurdakul, Statistical Properties of Population Stability Index, 2018,
https://scholarworks.wmich.edu/dissertations/3208
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# An empty bin would make the index infinite; this is its usual stand-in.
FLOOR = 1e-4


def psi(reference: ArrayLike, observed: ArrayLike) -> float:
    """Population stability index of two arrays of counts, shape (bins,). 0 means equal; above 0.2 is a shift."""
    expected, actual = _shares(reference), _shares(observed)
    return float(np.sum((actual - expected) * np.log(actual / expected)))


def unbiased_psi(reference: ArrayLike, observed: ArrayLike) -> float:
    """The index without what chance alone adds to it: about bins - 1 by each number of rows."""
    expected, actual = np.asarray(reference, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    return psi(expected, actual) - float((len(expected) - 1) * (1 / expected.sum() + 1 / actual.sum()))


def ks(reference: ArrayLike, observed: ArrayLike) -> float:
    """Kolmogorov-Smirnov distance of two arrays of counts, shape (bins,): 0 to 1, exact up to the bins."""
    first, second = np.asarray(reference, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    return float(np.max(np.abs(np.cumsum(first) / first.sum() - np.cumsum(second) / second.sum())))


def _shares(counts: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(counts, dtype=np.float64)
    shares: NDArray[np.float64] = np.maximum(array / array.sum(), FLOOR)
    return shares
