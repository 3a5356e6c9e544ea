"""Which share of fresh rows of the training data's own kind are outliers; it should be 0.1 %.

    python benchmarks/server/outliers.py        (half a minute)

Half of the rows are the training data, of which `modeldeploy package` writes the profile and the correlation; the other
half are compared with it: with features taken as independent, with the correlation of 0.3 that a server assumes where
the package says nothing, and with the one that the package says.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets

from model_server.domain.features import Feature, Metadata, ReferenceFeature
from model_server.monitoring.data_quality import find_marginals
from model_server.monitoring.marginals import CORRELATION, distances, threshold
from modeldeploy.package.describing import describe

Rows = NDArray[np.float64]
ROWS = 40_000


def made_up(rng: np.random.Generator, features: int) -> dict[str, Rows]:
    """Tables whose features go together in different ways."""
    common, own = rng.normal(size=(ROWS, 1)), rng.normal(size=(ROWS, features))
    groups = np.repeat(rng.normal(size=(ROWS, features // 5)), 5, axis=1)
    heavy = np.sqrt(rng.chisquare(3, size=(ROWS, 1)) / 3)
    return {
        f"{features} independent features": own,
        f"{features} features, one cause (0.8)": np.sqrt(0.8) * common + np.sqrt(0.2) * own,
        f"{features} features, one cause (0.5), long tails": np.exp(np.sqrt(0.5) * common + np.sqrt(0.5) * own),
        f"{features} features in groups of five (0.9)": np.sqrt(0.9) * groups + np.sqrt(0.1) * own,
        f"{features} features that are extreme together": (np.sqrt(0.3) * common + np.sqrt(0.7) * own) / heavy,
    }


def shares(rows: Rows) -> tuple[list[float], float]:
    """Return the shares of outliers by each correlation, and the measured correlation."""
    training, fresh = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    names = [f"x{place}" for place in range(rows.shape[1])]
    columns = {name: [repr(float(value)) for value in column] for name, column in zip(names, training.T, strict=True)}
    described = describe(names, columns, ranges=False)
    features = tuple(Feature(name=name) for name in names)
    profile = {
        name: ReferenceFeature(edges=tuple(one["edges"]), counts=tuple(one["counts"]), missing=0)
        for name, one in described["reference_profile"].items()
        if "edges" in one
    }
    found = find_marginals(features, Metadata(input_features=features, reference_profile=profile))
    sums = sum(marginal.scores[:, marginal.cells(fresh[:, place])] for place, marginal in found.items())
    measured = described["reference_correlation"]
    limits = [threshold(list(found.values()), correlation) for correlation in (0.0, CORRELATION, measured)]
    return [float((distances(np.asarray(sums)) > limit).mean()) for limit in limits], measured


def main() -> None:
    rng = np.random.default_rng(1)
    tables = {name: rng.permutation(getattr(datasets, f"load_{name}")().data) for name in ("breast_cancer", "digits")}
    for features in (5, 30, 100):
        tables |= made_up(rng, features)
    print("| | independent | assumed | measured | correlation |\n|---|---|---|---|---|")
    for name, rows in tables.items():
        found, measured = shares(rows)
        print(f"| {name} | {' | '.join(f'{share:.2%}' for share in found)} | {measured:.2f} |", flush=True)


if __name__ == "__main__":
    main()
