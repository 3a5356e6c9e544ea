"""The data that all monitors see: a reference, and streams of rows that change at a known place. Seeded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Columns: TypeAlias = dict[str, NDArray]

NUMBERS = ("age", "amount", "hours", "score", "visits")
CATEGORY = "plan"
#: Rows before the change, and from there on.
BEFORE, AFTER = 6_000, 10_000
#: Rows of the reference, and of a chunk. Evidently chooses its test by whether a reference has more than 1,000.
SETTINGS = ((1_000, 500), (5_000, 500), (5_000, 2_000))
PLANS = (("free", 0.5), ("basic", 0.3), ("paid", 0.15), ("team", 0.05))


def rows(random: np.random.Generator, count: int) -> Columns:
    """Independent rows as they are without a change."""
    names, shares = zip(*PLANS, strict=True)
    return {
        "age": random.normal(40, 10, count),
        "amount": random.lognormal(3, 0.6, count),
        "hours": random.gamma(2, 3, count),
        "score": random.uniform(0, 1, count),
        "visits": random.poisson(12, count).astype(float),
        CATEGORY: random.choice(names, count, p=shares).astype(object),
    }


Change: TypeAlias = Callable[[Columns, np.random.Generator], Columns]


def _with(column: str, change: Callable[[NDArray, np.random.Generator], NDArray]) -> Change:
    return lambda found, random: {**found, column: change(found[column], random)}


def _new_plan(values: NDArray, random: np.random.Generator) -> NDArray:
    return np.where(random.random(len(values)) < 0.1, "family", values).astype(object)


NONE = "no change"
#: What becomes of the rows after the change, each in one column of six.
SCENARIOS: dict[str, Change] = {
    NONE: lambda found, random: found,
    "mean, by 0.25 standard deviations": _with("age", lambda values, random: values + 2.5),
    "mean, by 0.5 standard deviations": _with("age", lambda values, random: values + 5),
    "spread, times 1.5": _with("age", lambda values, random: 40 + (values - 40) * 1.5),
    "a new category in 10 % of the rows": _with(CATEGORY, _new_plan),
    "a broken unit, times 100": _with("amount", lambda values, random: values * 100),
}


def reference_of(seed: int, count: int) -> Columns:
    """The reference of a seed."""
    return rows(np.random.default_rng([seed, 0]), count)


def stream_of(seed: int, scenario: str, chunk: int) -> list[Columns]:
    """The chunks of a seed. Those before the change are the same in all scenarios."""
    random, changes = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    before = [rows(random, chunk) for _ in range(BEFORE // chunk)]
    return before + [SCENARIOS[scenario](rows(random, chunk), changes) for _ in range(AFTER // chunk)]
