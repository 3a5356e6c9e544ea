"""The models that every server serves, and what they answer themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
from sklearn.datasets import load_iris, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression


@dataclass(frozen=True)
class Work:
    """What one request asks for."""

    name: str
    model: str
    rows: int


WORKS = (
    Work("logistic regression, 1 row", "iris", 1),
    Work("logistic regression, 32 rows", "iris", 32),
    Work("forest of 100 trees, 1 row", "forest", 1),
)


def train(folder: Path) -> dict[str, Any]:
    """Write both models; the rows of the requests and the models' own predictions for them."""
    iris = load_iris()
    table, labels = make_classification(5000, 20, n_informative=10, random_state=0)
    trained = {
        "iris": (LogisticRegression(max_iter=500).fit(iris.data, iris.target), iris.data[::4]),
        "forest": (RandomForestClassifier(100, random_state=0, n_jobs=1).fit(table, labels), table),
    }
    found = {}
    for name, (model, rows) in trained.items():
        (folder / name).mkdir(parents=True)
        joblib.dump(model, folder / name / "model.joblib")
        some = [[round(float(value), 4) for value in row] for row in rows[:32]]
        found[name] = {"rows": some, "predictions": [int(label) for label in model.predict(some)]}
    return found
