"""Verification that the counted requests, or the users of an A/B test, agree with the configured weight.

No router is trusted: the counters of the revisions are compared with their expected shares by Pearson's chi-square
test. Repeated testing inflates false alarms, and a rollout has thousands of tests: at p < 0.001 each, one in twenty
healthy routers would be reported within an hour. So the split counts as wrong only if an anytime-valid test rejects it
too: the likelihood ratio of a beta-binomial around the weight (Lindon and Malek, 2022, "Anytime-valid inference for
multinomial count data", https://arxiv.org/abs/2011.03567).
"""

import math

from model_operator.observation.values import Traffic

#: Upper 0.1 % point of the chi-square distribution with one degree of freedom.
CHI_SQUARE_LIMIT = 10.828
#: Evidence at which the split is wrong: one false alarm in a thousand, at any number of looks.
WRONG_AT = math.log(1000)
#: Concentration of the beta-binomial around the weight, in requests.
_STRENGTH = 1000
#: Minimum expected requests on either side for the chi-square approximation (Cochran, 1954).
LEAST_EXPECTED = 5


def observed_percent(traffic: Traffic | None) -> float | None:
    """Return the counted share of the canary in percent, None without requests."""
    total = traffic.canary + traffic.stable if traffic else 0
    return round(100 * traffic.canary / total, 1) if traffic and total else None


def is_split_right(traffic: Traffic | None, percent: int) -> bool | None:
    """Whether the counted share agrees with a weight; None while there are too few requests.

    Pearson's chi-square with expected counts `N w` and `N (1 - w)`: True when p >= 0.001.
    """
    if traffic is None:
        return None
    total = traffic.canary + traffic.stable
    if percent in (0, 100):
        strays = traffic.canary if percent == 0 else traffic.stable
        return None if total < LEAST_EXPECTED else strays == 0
    canary = total * percent / 100
    stable = total - canary
    if min(canary, stable) < LEAST_EXPECTED:
        return None
    chi_square = (traffic.canary - canary) ** 2 / canary + (traffic.stable - stable) ** 2 / stable
    if chi_square < CHI_SQUARE_LIMIT:
        return True
    return False if imbalance(traffic, percent) >= WRONG_AT else None


def imbalance(traffic: Traffic, percent: int) -> float:
    """Return the natural logarithm of E against H0 "each request goes to the canary with this weight" (1-99)."""
    weight = percent / 100
    a, b = _STRENGTH * weight, _STRENGTH * (1 - weight)
    mixture = _log_beta(a + traffic.canary, b + traffic.stable) - _log_beta(a, b)
    return mixture - traffic.canary * math.log(weight) - traffic.stable * math.log(1 - weight)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
