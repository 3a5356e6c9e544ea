"""The demo's models: trained by the first example's script, and asked directly for the truth.

scikit-learn is imported here and not by the command line, which has no use for it.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import yaml

from modeldeploy.demo.narrator import DemoFailed, Narrator
from modeldeploy.stand import checkout

Row = Sequence[float]


def train(out: Path, narrator: Narrator) -> None:
    """Run examples/01-minimal/train.py, which writes three packages under `out`."""
    script = checkout() / "examples" / "01-minimal" / "train.py"
    narrator.command(["python", str(script.relative_to(checkout())), str(out)])
    done = subprocess.run([sys.executable, str(script), str(out)], capture_output=True, text=True, timeout=300)
    narrator.output(done.stdout + done.stderr)
    if done.returncode:
        raise DemoFailed("the training failed")


def some_rows(package: Path, count: int, *, seed: int = 1) -> list[list[float]]:
    """Rows within the ranges that the package's model.yaml gives; shape (count, features)."""
    features = yaml.safe_load((package / "model.yaml").read_text())["input_features"]
    low, high = np.array([feature["range"] for feature in features], dtype=float).T
    spread = np.random.default_rng(seed).uniform(low, high, size=(count, len(features)))
    rows: list[list[float]] = spread.tolist()
    return rows


def own_predictions(package: Path, rows: Sequence[Row]) -> list[Any]:
    """What the package's model itself says about the rows, without any server."""
    predictions: list[Any] = joblib.load(package / "model.joblib").predict(np.array(rows)).tolist()
    return predictions
