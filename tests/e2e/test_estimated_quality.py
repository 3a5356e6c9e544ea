"""A model whose package says what its probabilities mean is estimated without labels, until its inputs drift."""

from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.naive_bayes import GaussianNB
from typer.testing import CliRunner
from waiting import wait_until

from modeldeploy.app import build
from modeldeploy.kube import MODELDEPLOYMENTS

NAME = "digits"
COLUMNS = (19, 20, 28, 36)


def packaged(folder: Path, scratch: Path) -> np.ndarray:
    """Write a calibrated package, and return rows that it has not seen."""
    digits = load_digits()
    rows, labels = digits.data[:, COLUMNS], (digits.target < 5).astype(int)
    folder.mkdir(parents=True)
    joblib.dump(GaussianNB().fit(rows[:600], labels[:600]), folder / "model.joblib")
    for name, part in (("train", slice(0, 600)), ("holdout", slice(600, 1200))):
        header = ",".join([*(f"p{column}" for column in COLUMNS), "small"])
        table = np.column_stack([rows[part], labels[part]])
        np.savetxt(scratch / f"{name}.csv", table, "%d", ",", header=header, comments="")
    options = ["--sample", scratch / "train.csv", "--holdout", scratch / "holdout.csv", "--target", "small"]
    result = CliRunner().invoke(build(), ["package", *map(str, (folder, *options)), "--trusted", "--version", "1"])
    assert result.exit_code == 0, result.output
    return rows[1200:]


@pytest.mark.timeout(180)
def test_an_estimate_is_trusted_until_the_inputs_drift(space: Any, tmp_path: Path) -> None:
    if not space.cluster.models_uri.startswith("file://"):
        pytest.skip("the package is written where pods read it, and their storage is not a folder of this machine")
    rows = packaged(space.cluster.models / NAME / "1", tmp_path)
    space.apply(NAME, f"{NAME}/1", monitoring={"estimatedQuality": True})
    space.wait_live(NAME, "1")

    def trust() -> tuple[str, str]:
        conditions = space.kube.get(MODELDEPLOYMENTS, NAME)["status"]["conditions"]
        return next((one["status"], one["reason"]) for one in conditions if one["type"] == "EstimateTrusted")

    def ask(asked: np.ndarray) -> None:
        answer = httpx.post(f"{space.url(NAME)}/predict", json={"instances": asked.astype(int).tolist()}, timeout=20)
        answer.raise_for_status()

    ask(rows)
    wait_until(lambda: trust() == ("True", "Trusted"), lambda: f"the estimate is trusted: {trust()}", seconds=60)
    metrics = httpx.get(f"{space.url(NAME)}/metrics", timeout=20).text
    assert 'modeldeploy_estimated_quality{metric="accuracy"' in metrics
    ask(rows * 3)
    wait_until(lambda: trust() == ("False", "InputsDrifted"), lambda: f"it is no longer: {trust()}", seconds=60)
