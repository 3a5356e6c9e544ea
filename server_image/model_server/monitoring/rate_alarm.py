"""An anytime-valid alarm for rates: whether the mean of numbers from 0 to 1 is surely above a limit.

Each request gives one number: the share of its rows that have a problem. Rows of one request may depend on each other
in any way; the test assumes only that the expected share is at most the limit, whatever came before. For a bet of b
the capital is multiplied by 1 + b (share - limit) at each request, which is a nonnegative supermartingale then
(Waudby-Smith and Ramdas, 2024, "Estimating means of bounded random variables by betting",
https://arxiv.org/abs/2010.09686). Capital that was lost in good times must not delay an alarm, so fresh capital comes
in with each look, 1 / (k (k + 1)) with the k-th: in all that is 1. By Ville's inequality the capital ever exceeds 1 /
alpha with a probability of at most alpha, however often one looks. Kept capital is limited above, which no
supermartingale minds, so that an alarm ends.
"""

from __future__ import annotations

import math

import numpy as np

from model_server.domain.tensors import Array

#: Bets as shares of the largest possible one, 1 / limit.
BETS = np.array([0.05, 0.15, 0.4, 0.8])
# So much evidence is kept beyond what an alarm needs (natural logarithm).
_BEYOND = 2.0


class RateAlarm:
    """One alarm for each of several rates.

    Args:
        limits: the largest expected share of each, shape (rates,), above 0 and below 1.
        alpha: the probability that any of them ever gives a false alarm.
    """

    def __init__(self, limits: Array, alpha: float) -> None:
        self._limits = limits
        self._bets = BETS[None, :] / limits[:, None]
        self.alarm_at = math.log(max(len(limits), 1) / alpha)
        self._capital = np.full(self._bets.shape, -np.inf)
        self._looks = 0

    @property
    def evidence(self) -> Array:
        """The logarithm of each rate's capital, shape (rates,); from `alarm_at` on it is an alarm."""
        top: Array = self._capital.max(axis=1)
        if not self._looks:
            return top
        mean: Array = top + np.log(np.exp(self._capital - top[:, None]).mean(axis=1))
        return mean

    def update(self, requests: int, shares: list[Array]) -> None:
        """Look once more.

        Args:
            requests: requests since the last look.
            shares: for each rate the shares of the requests that have any, shape (requests with any,).
        """
        self._looks += 1
        fresh = -math.log(self._looks * (self._looks + 1))
        steps = np.log1p(-BETS) * (requests - np.array([len(found) for found in shares])[:, None])
        for place, found in enumerate(shares):
            if len(found):
                steps[place] += np.log1p(self._bets[place] * (found[:, None] - self._limits[place])).sum(axis=0)
        self._capital = np.minimum(np.logaddexp(self._capital, fresh) + steps, self.alarm_at + _BEYOND)
