"""Train this example's models and write them as model packages.

    python train.py OUT_DIR

writes OUT_DIR/breast-cancer/1, OUT_DIR/breast-cancer/2 and OUT_DIR/wine/1. The tables come with
scikit-learn. Each package holds `model.joblib` (a pipeline of scaler and classifier) and
`model.yaml` (what the model takes and gives, from which the server makes its API page).
"""

import sys
from pathlib import Path
from typing import Any

import joblib
import yaml
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

SEED = 7


def train(out: Path, table: Any, classifier: ClassifierMixin, *, name: str, version: str) -> None:
    """Fit scaler and classifier on three quarters of `table` and write the package to `out`."""
    known, held_out, truth, held_out_truth = train_test_split(
        table.data, table.target, test_size=0.25, random_state=SEED, stratify=table.target
    )
    model = make_pipeline(StandardScaler(), classifier).fit(known, truth)
    accuracy = accuracy_score(held_out_truth, model.predict(held_out))
    metadata = {
        "name": name,
        "version": version,
        "description": f"{type(classifier).__name__} on scikit-learn's {name} table",
        "format": "sklearn",
        "input_features": [
            {
                "name": feature.replace(" ", "_").replace("/", "_"),
                "dtype": "float64",
                "range": [float(column.min()), float(column.max())],
                "example": float(column[0]),
            }
            for feature, column in zip(table.feature_names, table.data.T, strict=True)
        ],
        "output_features": [
            {
                "name": "class",
                "dtype": "int64",
                "description": ", ".join(f"{i} is {label}" for i, label in enumerate(table.target_names)),
            }
        ],
        "metrics": {"accuracy": round(float(accuracy), 4)},
    }
    out.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, out / "model.joblib")
    (out / "model.yaml").write_text(yaml.safe_dump(metadata, sort_keys=False))
    print(f"{name} {version}: accuracy {accuracy:.3f} on {len(held_out)} rows held out -> {out}")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python train.py OUT_DIR")
    out = Path(sys.argv[1])
    cancer, wine = load_breast_cancer(), load_wine()
    linear = LogisticRegression(max_iter=1000)
    train(out / "breast-cancer" / "1", cancer, linear, name="breast-cancer", version="1")
    train(out / "breast-cancer" / "2", cancer, SVC(random_state=SEED), name="breast-cancer", version="2")
    train(out / "wine" / "1", wine, LogisticRegression(max_iter=1000), name="wine", version="1")


if __name__ == "__main__":
    main()
