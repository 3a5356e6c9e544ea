"""A scorecard: points for what is known of an applicant, and a probability out of their sum."""

import json
from pathlib import Path

import numpy as np


def load_model(path):
    return json.loads((Path(path) / "weights.json").read_text())


def predict(model, inputs):
    points = np.full(len(inputs["age"]), model["intercept"])
    for name, weight in model["numbers"].items():
        points += weight * inputs[name].astype(float)
    for name, values in model["categories"].items():
        points += np.array([values[value] for value in inputs[name]])
    return np.round(1 / (1 + np.exp(-points)), 4)
