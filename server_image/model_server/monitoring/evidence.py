"""How strong the evidence is that a feature's values no longer come from where its reference came from. Pure.

`drift.py` calls it. The evidence is an e-value: a likelihood ratio of counts by bin, which may be looked at after every
row, for ever. Given the counts of the reference, those of later rows from the same source are Dirichlet-multinomial.
Between order statistics of a continuous feature, which `modeldeploy package` and `drift.learn` choose as edges, that is
so whatever the distribution (the shares between order statistics are Dirichlet, with their counts as parameters) up to
half a row of prior in each bin; for categories and other edges it is so under Jeffreys' prior. So the sampling error
of the reference is part of the null hypothesis. The alternative is a mixture of Dirichlet-multinomials around
the reference. By Ville's inequality the ratio ever reaches 1/alpha with a probability of at most alpha.

A. Ramdas, P. Gruenwald, V. Vovk, G. Shafer, Game-theoretic statistics and safe anytime-valid inference, 2023,
https://arxiv.org/abs/2210.01948; restarted tests: J. Shin, A. Ramdas, A. Rinaldo, E-detectors, 2022,
https://arxiv.org/abs/2203.03532
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

#: Chance that a server without drift ever says so, of all its features and windows together.
ALPHA = 0.05
#: How far alternatives lie from the reference: parameters of the Dirichlet distribution, in rows. 1 is a broken unit,
#: 50 about a PSI of 0.2 in ten bins, 500 one of 0.02.
_CONCENTRATIONS = np.array([1.0, 50.0, 500.0])
# Jeffreys' prior: a bin that the reference never met is possible.
_PRIOR = 0.5
#: Nobody needs to tell evidence above e^600 apart, and e^710 is no finite float.
_LARGEST = 600.0


def log_evidence(reference: Sequence[float], observed: ArrayLike) -> Floats:
    """Logarithms of the e-values against "the same source", shape (windows,); 0 where there are no rows.

    `reference` are counts by bin, shape (bins,); `observed` those of each window, shape (windows, bins).
    """
    counts = np.asarray(observed, dtype=np.float64)
    known = np.asarray(reference, dtype=np.float64) + _PRIOR
    parameters = np.vstack([_CONCENTRATIONS[:, None] * known / known.sum(), known])
    *alternatives, null = _log_likelihoods(parameters, counts)
    mixture = np.logaddexp.reduce(np.array(alternatives), axis=0) - math.log(len(alternatives))
    found: Floats = mixture - null
    return found


def lifetime_evidence(log_value: float, *, tests: int, number: int) -> float:
    """E-value that holds for the whole life of a server: at least 1/alpha ever, with a chance of at most alpha.

    `tests` run side by side, and each starts anew from time to time; the `number`-th start of one may spend
    alpha / (tests * number * (number + 1)). These sum up to alpha, however many starts there are.
    """
    return math.exp(min(log_value - math.log(tests * number * (number + 1.0)), _LARGEST))


def _log_likelihoods(parameters: Floats, counts: Floats) -> Floats:
    """Logarithms of the Dirichlet-multinomial probabilities of rows with these counts, shape (parameters, windows)."""
    totals = parameters.sum(axis=1)[:, None]
    each = _log_gamma(parameters[:, None, :] + counts[None]) - _log_gamma(parameters)[:, None, :]
    found: Floats = each.sum(axis=2) + _log_gamma(totals) - _log_gamma(totals + counts.sum(axis=1)[None])
    return found


def _log_gamma(values: Floats) -> Floats:
    """Logarithm of the gamma function of positive numbers, to 1e-10: Stirling's series, seven steps further up."""
    product = np.ones_like(values)
    for step in range(7):
        product = product * (values + step)
    above = values + 7
    inverse = 1 / above
    square = inverse * inverse
    series = inverse * (1 / 12 - square * (1 / 360 - square / 1260))
    found: Floats = (above - 0.5) * np.log(above) - above + 0.5 * math.log(2 * math.pi) + series - np.log(product)
    return found
