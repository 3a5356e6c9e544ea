"""How sure one can be of a rate that is looked at all the time. PURE."""

import math
from collections.abc import Callable

_BISECTIONS = 60


def confidence_sequence(trials: int, bad: int, alpha: float = 0.05) -> tuple[float, float]:
    """Return the bounds of a rate that hold at all looks at once with probability 1 - `alpha`.

    They are the rates p against which the mixture of the binomial likelihood over Beta(1/2, 1/2) is less than 1/alpha
    (Robbins, 1970; Ville's inequality makes it hold at any number of looks). They are wider than an interval for one
    look, and hold while one rate is in force; without trials they are 0 and 1.
    """
    if trials == 0:
        return 0.0, 1.0
    mixture = _log_beta(bad + 0.5, trials - bad + 0.5) - _log_beta(0.5, 0.5)
    most = mixture + math.log(alpha)

    def is_in(rate: float) -> bool:
        return _log_likelihood(trials, bad, rate) > most

    rate = bad / trials
    return _edge(0.0, rate, is_in_first=bad == 0, is_in=is_in), _edge(1.0, rate, is_in_first=bad == trials, is_in=is_in)


def _edge(outside: float, inside: float, *, is_in_first: bool, is_in: Callable[[float], bool]) -> float:
    """Return where between the two the bound is; `is_in_first` tells that the extreme rate is possible itself."""
    if is_in_first:
        return outside
    for _ in range(_BISECTIONS):
        middle = (outside + inside) / 2
        if is_in(middle):
            inside = middle
        else:
            outside = middle
    return inside


def _log_likelihood(trials: int, bad: int, rate: float) -> float:
    good = trials - bad
    return (bad * math.log(rate) if bad else 0.0) + (good * math.log1p(-rate) if good else 0.0)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
