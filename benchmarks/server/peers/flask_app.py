"""Flask and a loaded model, run by gunicorn."""

import os
from pathlib import Path

import joblib
import numpy as np
from flask import Flask, jsonify, request

MODELS = {name: joblib.load(Path(os.environ["MODELS"]) / name / "model.joblib") for name in ("iris", "forest")}
app = Flask(__name__)


@app.post("/<name>")
def predict(name):
    rows = np.array(request.get_json()["instances"])
    return jsonify({"predictions": MODELS[name].predict(rows).tolist()})


@app.get("/health")
def health():
    return "ok"
