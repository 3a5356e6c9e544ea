"""A BentoML service with a plain and a batching endpoint for each model."""

import os
from pathlib import Path

import bentoml
import joblib
import numpy as np

MODELS = Path(os.environ["MODELS"])
BATCH = {"batchable": True, "batch_dim": 0, "max_batch_size": 2048, "max_latency_ms": 10_000}


@bentoml.service(workers=1)
class Service:
    def __init__(self):
        self.iris = joblib.load(MODELS / "iris" / "model.joblib")
        self.forest = joblib.load(MODELS / "forest" / "model.joblib")

    @bentoml.api
    def iris_plain(self, rows: np.ndarray) -> np.ndarray:
        return self.iris.predict(rows)

    @bentoml.api
    def forest_plain(self, rows: np.ndarray) -> np.ndarray:
        return self.forest.predict(rows)

    @bentoml.api(**BATCH)
    def iris_batch(self, rows: np.ndarray) -> np.ndarray:
        return self.iris.predict(rows)

    @bentoml.api(**BATCH)
    def forest_batch(self, rows: np.ndarray) -> np.ndarray:
        return self.forest.predict(rows)
