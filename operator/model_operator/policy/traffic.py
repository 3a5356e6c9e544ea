"""Whether the counted requests agree with the configured weight.

No router is trusted: the revisions' own counters are compared with the share they should have.
"""

from model_operator.policy.observed import Traffic

#: Upper 0.1 % point of the chi-square distribution with one degree of freedom.
CHI_SQUARE_LIMIT = 10.828
#: Least expected requests on either side for the chi-square approximation to hold (Cochran, 1954).
LEAST_EXPECTED = 5


def observed_percent(traffic: Traffic | None) -> float | None:
    """Return the canary's counted share in percent, None without requests."""
    total = traffic.canary + traffic.stable if traffic else 0
    return round(100 * traffic.canary / total, 1) if traffic and total else None


def is_split_right(traffic: Traffic | None, percent: int) -> bool | None:
    """Whether the counted share agrees with a weight; None while there are too few requests to tell.

    Pearson's chi-square with expected counts `N w` and `N (1 - w)`: False when p < 0.001.
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
    return chi_square < CHI_SQUARE_LIMIT
