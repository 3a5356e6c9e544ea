"""What explanations do to the predictions beside them: the latency of a steady load without and with them, in turns.

A steady load of `--rate` predictions a second is sent on time, whether the last was answered or not, and a second
client asks for one explanation after the other. Run `python benchmarks/server/explaining.py`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import yaml
from data_quality import server
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from xgboost import XGBClassifier

#: How each is explained, and the model.
MODELS = {
    "linear, exactly": make_pipeline(StandardScaler(), LogisticRegression()),
    "XGBoost, by its own TreeSHAP": XGBClassifier(n_estimators=100, max_depth=4, n_jobs=1),
    "a support vector machine, by an estimate": make_pipeline(StandardScaler(), SVC(probability=True, random_state=0)),
}
CLIENTS = 16


def package(folder: Path, model: Any) -> None:
    """The model with 100 rows of reference, which estimates need."""
    data = load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names]
    folder.mkdir()
    joblib.dump(model.fit(data.data, data.target), folder / "model.joblib")
    profile = {}
    for place, name in enumerate(names):
        edges = np.unique(np.quantile(data.data[:, place], np.linspace(0, 1, 11)))
        counts, _ = np.histogram(data.data[:, place], bins=edges)
        profile[name] = {"edges": edges.tolist(), "counts": counts.tolist(), "missing": 0}
    about = {"input_features": [{"name": name} for name in names], "reference_profile": profile}
    (folder / "model.yaml").write_text(yaml.safe_dump(about))


class Client(threading.local):
    """One connection for each thread."""

    connection: http.client.HTTPConnection | None = None

    def post(self, port: int, path: str, body: bytes) -> None:
        """Send a request and read the answer. Raises SystemExit for any other answer than 200."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.connection.request("POST", path, body, {"content-type": "application/json"})
        answer = self.connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {said.decode()}")


def latencies(port: int, body: bytes, rate: int, seconds: int) -> list[float]:
    """Milliseconds from when each prediction was due until it was answered."""
    client, began = Client(), time.perf_counter() + 0.1

    def ask(number: int) -> float:
        due = began + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        client.post(port, "/predict", body)
        return (time.perf_counter() - due) * 1e3

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(ask, range(rate * seconds)))


@contextmanager
def explaining(port: int, body: bytes) -> Iterator[list[int]]:
    """Ask for one explanation after the other; how many were answered is in the list at the end."""
    over, count = threading.Event(), [0]

    def ask() -> None:
        client = Client()
        while not over.is_set():
            client.post(port, "/explain", body)
            count[0] += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield count
    finally:
        over.set()
        thread.join()


def main() -> None:
    """Measure in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    given = parser.parse_args()
    body = json.dumps({"instances": load_breast_cancer().data[:1].tolist()}).encode()
    columns = ("explained", "p50, ms", "with explanations", "p99, ms", "with explanations", "ratio of p99", "a second")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for title, model in MODELS.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            package(folder, model)
            rounds = []
            with server(folder, EXPLANATIONS="true") as (_, port):
                for _ in range(given.rounds):
                    alone = latencies(port, body, given.rate, given.seconds)
                    with explaining(port, body) as count:
                        beside = latencies(port, body, given.rate, given.seconds)
                    rounds.append((*_shares(alone), *_shares(beside), count[0] / given.seconds))
        p50, p99, p50_beside, p99_beside, each = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(one[3] / one[1] for one in rounds)
        print(f"| {title} | {p50:.2f} | {p50_beside:.2f} | {p99:.2f} | {p99_beside:.2f} | {ratio:.2f} | {each:.0f} |")


def _shares(found: list[float]) -> tuple[float, float]:
    return float(np.percentile(found, 50)), float(np.percentile(found, 99))


if __name__ == "__main__":
    main()
