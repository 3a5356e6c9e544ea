"""Exact one-sided tests of a share, for one look at a sample of fixed size.

X of n independent requests succeed with probability p. The share is below `limit` with error probability alpha if
P(X <= x | p = limit) <= alpha, and above it if P(X >= x | p = limit) <= alpha (Clopper and Pearson, 1934).
"""

import math

from model_operator.observation.values import Outcome


def upper_tail(successes: int, trials: int, share: float) -> float:
    """Return P(X >= successes) of a binomial distribution."""
    if successes <= 0:
        return 1.0
    if share <= 0:
        return 0.0
    if share >= 1:
        return 1.0
    terms = (_term(x, trials, share) for x in range(successes, trials + 1))
    return min(1.0, math.fsum(terms))


def lower_tail(successes: int, trials: int, share: float) -> float:
    """Return P(X <= successes) of a binomial distribution."""
    return upper_tail(trials - successes, trials, 1 - share)


def compare_share(successes: int, trials: int, limit: float, *, fail_alpha: float, pass_alpha: float) -> Outcome:
    """Return FAIL if the share is surely below the limit, PASS if it is surely above, else UNDECIDED."""
    if lower_tail(successes, trials, limit) <= fail_alpha:
        return Outcome.FAIL
    return Outcome.PASS if upper_tail(successes, trials, limit) <= pass_alpha else Outcome.UNDECIDED


def trials_needed(share: float, limit: float, alpha: float) -> int | None:
    """Return about how many trials with this share of successes would pass; None if none would.

    By Chernoff's bound, which is exact where all succeed.
    """
    if share <= limit or not 0 < limit < 1:
        return None
    missing = (1 - share) * math.log((1 - share) / (1 - limit)) if share < 1 else 0.0
    return math.ceil(math.log(1 / alpha) / (share * math.log(share / limit) + missing))


def _term(successes: int, trials: int, share: float) -> float:
    ways = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    return math.exp(ways + successes * math.log(share) + (trials - successes) * math.log1p(-share))
