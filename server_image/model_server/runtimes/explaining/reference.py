"""What the contributions are measured from: the training data as the package's reference profile describes them.

The profile has the distribution of each feature and nothing of how features go together. So the reference is a discrete
distribution for each feature, a histogram's bins as their middles, and the features are independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from model_server.domain.explanations import NotExplainable
from model_server.domain.features import Feature, ReferenceFeature, Scalar
from model_server.domain.tensors import Array

SEED = 0
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Reference:
    """The values of each feature, by its place, and their probabilities."""

    values: tuple[tuple[Scalar, ...], ...]
    weights: tuple[Array, ...]

    @classmethod
    def of(cls, features: Sequence[Feature], profile: Mapping[str, ReferenceFeature]) -> Reference:
        """Read the profile. Raises NotExplainable where it does not describe each feature."""
        missing = [
            feature.name for feature in features if feature.name not in profile or _total(profile[feature.name]) == 0
        ]
        if missing or not features:
            raise NotExplainable(without_profile(missing))
        found = [_distribution(feature, profile[feature.name]) for feature in features]
        return cls(tuple(values for values, _ in found), tuple(weights for _, weights in found))

    def rows(self, count: int, *, seed: int = SEED) -> list[list[Scalar]]:
        """Rows drawn at random, each feature on its own."""
        rng = np.random.default_rng(seed)
        chosen = [
            rng.choice(len(values), count, p=weights) for values, weights in zip(self.values, self.weights, strict=True)
        ]
        return [
            [values[places[row]] for values, places in zip(self.values, chosen, strict=True)] for row in range(count)
        ]

    def grid(self) -> list[list[Scalar]]:
        """Rows that hold each value of each feature at least once, in order, so that row k has value k."""
        most = max(map(len, self.values))
        return [[values[row % len(values)] for values in self.values] for row in range(most)]


def without_profile(names: Sequence[str]) -> str:
    """Why a model whose package has no profile of these features cannot be explained."""
    if not names:
        return "its inputs have no named features: list input_features in model.yaml"
    named = ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
    return f"its package has no reference_profile for {named}: describe the training data in model.yaml"


def _total(reference: ReferenceFeature) -> int:
    return sum(reference.counts or (reference.categories or {}).values())


def _distribution(feature: Feature, reference: ReferenceFeature) -> tuple[tuple[Scalar, ...], Array]:
    if reference.categories is not None:
        values: tuple[Scalar, ...] = tuple(map(feature.value_of, reference.categories))
        if feature.is_integer:
            values = tuple(map(int, values))
        counts: Sequence[int] = tuple(reference.categories.values())
    else:
        edges, counts = reference.edges or (), reference.counts or ()
        values = tuple(_middle(feature, low, high) for low, high in pairwise(edges))
    kept = [place for place, count in enumerate(counts) if count]
    weights = np.array([counts[place] for place in kept], dtype=np.float64)
    return tuple(values[place] for place in kept), weights / weights.sum()


def _middle(feature: Feature, low: float, high: float) -> Scalar:
    ends = [edge for edge in (low, high) if math.isfinite(edge)]
    middle = sum(ends) / max(len(ends), 1)
    if feature.range is not None:
        middle = min(max(middle, feature.range[0]), feature.range[1])
    return round(middle) if feature.is_integer else middle
