"""How much the numbers of a sample go together, as one figure: the correlation that one common cause would give them.

The server needs it to tell rows that are far from the training data from rows that are merely large in all features
(`model_server/monitoring/marginals.py`). It is the mean correlation of normal scores, which any increasing change of a
unit leaves as it is, and comes from the variance of their sum: all pairs together cost no more than all columns. Pure.
"""

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

#: Fewer rows say too little about it.
_FEWEST_ROWS = 50
#: More rows are thinned out evenly.
_MOST_ROWS = 5_000
_NORMAL = statistics.NormalDist()


def common_correlation(columns: Sequence[Sequence[float | None]]) -> float | None:
    """Return the mean correlation of the columns, from 0 to below 1; None where there are too few columns or rows.

    A row may be far to the same side in all columns, or to the side of each column's long tail: the larger correlation
    of the two counts.

    Args:
        columns: numbers of the same rows, None where one is missing.
    """
    scored = [(_normal_scores(column), _tail(column)) for column in map(_thinned, columns)]
    spreads = [(scores, tail, statistics.pstdev(scores)) for scores, tail in scored]
    varied = [one for one in spreads if one[2] > 0]
    if len(varied) < 2 or len(varied[0][0]) < _FEWEST_ROWS:
        return None
    own = sum(spread**2 for _, _, spread in varied)
    pairs = sum(spread for _, _, spread in varied) ** 2 - own
    means: list[float] = []
    for sides in ([1.0] * len(varied), [tail for _, tail, _ in varied]):
        rows = zip(*(scores for scores, _, _ in varied), strict=True)
        sums = [sum(side * score for side, score in zip(sides, row, strict=True)) for row in rows]
        means.append((statistics.pvariance(sums) - own) / pairs)
    largest: float = max(0.0, *means)
    return round(min(largest, 0.99), 3)


def _thinned(column: Sequence[float | None]) -> Sequence[float | None]:
    step = -(-len(column) // _MOST_ROWS)
    return column[:: max(step, 1)]


def _normal_scores(column: Sequence[float | None]) -> list[float]:
    """Return the normal quantile of each number's rank; a missing one is in the middle."""
    ordered = sorted(number for number in column if number is not None)
    ranks = {number: (bisect_left(ordered, number) + bisect_right(ordered, number) + 1) / 2 for number in set(ordered)}
    scores = {number: _NORMAL.inv_cdf(rank / (len(ordered) + 1)) for number, rank in ranks.items()}
    return [0.0 if number is None else scores[number] for number in column]


def _tail(column: Sequence[float | None]) -> float:
    """Return 1 for a long tail of large numbers, and -1 for one of small numbers."""
    ordered = sorted(number for number in column if number is not None)
    if not ordered:
        return 1.0
    edge = len(ordered) // 20
    low, middle, high = ordered[edge], ordered[len(ordered) // 2], ordered[-1 - edge]
    return -1.0 if middle - low > high - middle else 1.0
