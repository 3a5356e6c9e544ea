"""KServe's Python server with a scikit-learn model, as its own sklearnserver does it."""

import os
from pathlib import Path

import joblib
from kserve import Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response


class Sklearn(Model):
    def load(self):
        self.model = joblib.load(Path(os.environ["MODELS"]) / self.name / "model.joblib")
        self.ready = True
        return True

    def predict(self, payload, headers=None):
        return get_predict_response(payload, self.model.predict(get_predict_input(payload)), self.name)


if __name__ == "__main__":
    models = [Sklearn("iris"), Sklearn("forest")]
    for model in models:
        model.load()
    ModelServer(workers=1).start(models)
