"""Counts of recent rows by feature and bin, in windows that start anew; `drift.py` fills and compares them.

A window is one run of a sequential test, so it holds whole rows and forgets by starting from nothing. Of each length
there are two, half a length apart: one always has enough rows. Short windows find a large change soon after it, long
ones a small change. What decides that a window starts anew is the number of its rows and never their values, as
the promise of the test demands.
"""

from __future__ import annotations

import numpy as np

from model_server.domain.tensors import Array
from model_server.monitoring.evidence import Floats
from model_server.shared_values import WIDTH, SharedValues

BINS = 24
MOST_FEATURES = 128
#: Rows after which windows start anew.
LENGTHS = (1_000, 1_000, 10_000, 10_000)
WINDOWS = len(LENGTHS)
_SECOND = (1, 3)


class DriftWindows:
    """The windows of all features, in the memory that workers share. A worker starts its own windows anew."""

    def __init__(self, values: SharedValues) -> None:
        counts = values.declare(MOST_FEATURES * WINDOWS * BINS)
        rows, starts = values.declare(WINDOWS), values.declare(WINDOWS)
        everything = np.asarray(values.everything).reshape(values.workers, WIDTH)
        own = np.asarray(values.own)
        shape = (MOST_FEATURES, WINDOWS, BINS)
        self._counts: Floats = own[counts.first : counts.end].reshape(shape)
        self._rows: Floats = own[rows.first : rows.end]
        self._starts: Floats = own[starts.first : starts.end]
        self._all_counts: Floats = everything[:, counts.first : counts.end].reshape(values.workers, *shape)
        self._all_starts: Floats = everything[:, starts.first : starts.end]
        for window in _SECOND:
            # As if it were half full: from then on it starts anew when the first one is.
            self._rows[window] = LENGTHS[window] / 2

    def begin(self, rows: int) -> None:
        """Make room for so many rows, which are added next: full windows start anew."""
        is_full = self._rows >= LENGTHS
        self._counts[:, is_full] = 0
        self._rows[is_full] = 0
        self._starts[is_full] += 1
        self._rows += rows

    def add(self, place: int, counts: Array) -> None:
        """Add counts by bin of a feature to every window."""
        self._counts[place, :, : len(counts)] += counts

    def counts(self, place: int, bins: int) -> Floats:
        """Counts of a feature over all workers, shape (windows, bins)."""
        found: Floats = self._all_counts[:, place, :, :bins].sum(axis=0)
        return found

    def starts(self) -> list[int]:
        """How often windows of the same length have started, in all workers; at least 1. One number a window."""
        each = self._all_starts.sum(axis=0)
        return [1 + int(each[window] + each[window ^ 1]) for window in range(WINDOWS)]
