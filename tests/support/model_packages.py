"""The model packages of the end-to-end tests: two good versions, and the ways a package can be bad.

    python tests/support/model_packages.py OUT_DIR

Written by the fixtures; CI bakes the result into the server's image where no storage is at hand. These tests are about
pods and not about their model's library, so that most packages are a `model.py`: a pod of them is ready in a quarter
of the processor time that the import of scikit-learn takes.
"""

import json
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
REQUEST = ROOT / "examples" / "01-minimal" / "request.json"
VERSIONS = ("1", "2")

_QUICK = '''\
"""Says 1 of a tumour that is small by its {column}."""


def load_model(path):
    return None


def predict(model, inputs):
    return (inputs[:, {number}] < {limit}).astype(int)
'''

#: Of each version of the quick model, the column that it looks at and from where on it says 0.
QUICK = {"1": ("mean_radius", 15), "2": ("mean_area", 800)}

_NO_PREDICT = '''\
"""A package whose author forgot the second function."""


def load_model(path):
    return object()
'''

_JUDGED = '''\
"""Says whether the first number is large; {what}."""

import time

answered = 0


def load_model(path):
    return None


def predict(model, inputs):
    global answered
    answered += 1
    {does}
    return {says}
'''

#: The version of the judged model whose columns have other names.
RENAMED = "9-renamed"
#: The second number of the rows of the judged model that are the group `few`: about a third of them.
FEW_BELOW = 10
_RIGHT = "(inputs[:, 0] > 14).astype(int)"
#: Versions of one model: what they do besides, the code for it, and what they say.
JUDGED = {
    "1": ("nothing else", "pass", _RIGHT),
    "2-raises": ("fails at every tenth request", "assert answered % 10, 'every tenth'", _RIGHT),
    "3-slow": ("takes its time", "time.sleep(0.06)", _RIGHT),
    "4-same": ("nothing else", "pass", _RIGHT),
    "8-guarded": ("nothing else", "pass", _RIGHT),
    "5-shifted": ("says it less often", "pass", "(inputs[:, 0] > 33).astype(int)"),
    "6-inaccurate": ("is wrong at every tenth request", "pass", f"abs({_RIGHT} - (answered % 10 == 0))"),
    RENAMED: ("nothing else", "pass", _RIGHT),
    "10-unfair": (
        "is wrong about half of one group",
        "pass",
        f"abs({_RIGHT} - (inputs[:, 1] < {FEW_BELOW}) * (answered % 2))",
    ),
    "7-shuffled": ("has learnt nothing", "pass", "(inputs[:, 0] * 997 % 2 > 1).astype(int)"),
}


def ranges() -> dict[str, tuple[float, float]]:
    """The columns of the quick model, by name, each with the range that its package states."""
    rows = json.loads(REQUEST.read_text())["instances"]
    return {name: (0.0, 2 * max(row[name] for row in rows)) for name in rows[0]}


def some_rows(count: int) -> list[list[float]]:
    """Rows within the ranges, the same in every run."""
    chance = random.Random(1)
    return [[chance.uniform(*pair) for pair in ranges().values()] for _ in range(count)]


def judged_label(row: Sequence[float]) -> int:
    """What is right of a row of the judged model."""
    return int(row[0] > 14)


def own_predictions(version: str, rows: Sequence[Sequence[float]]) -> list[int]:
    """What a version of the quick model says about the rows."""
    column, limit = QUICK[version]
    number = list(ranges()).index(column)
    return [int(row[number] < limit) for row in rows]


def write(out: Path) -> None:
    """Write all packages under `out`."""
    for version, (column, limit) in QUICK.items():
        described = {
            "name": "breast-cancer",
            "version": version,
            "input_features": [
                {"name": name, "dtype": "float64", "range": list(pair)} for name, pair in ranges().items()
            ],
        }
        code = _QUICK.format(column=column, number=list(ranges()).index(column), limit=limit)
        _write(out / "quick" / "breast-cancer" / version, code, described)
    for version, (what, does, says) in JUDGED.items():
        described = {
            "version": version,
            "input_features": [{"name": f"{name}_mm" if version == RENAMED else name} for name in ranges()],
            "output_features": [{"name": "large", "dtype": "int64", "categories": [0, 1]}],
        }
        _write(out / "judged" / version, _JUDGED.format(what=what, does=does, says=says), described)
    rows = [[*row, judged_label(row)] for row in some_rows(200)]
    lines = [",".join([*ranges(), "label"]), *(",".join(map(str, row)) for row in rows)]
    (out / "judged" / "holdout.csv").write_text("\n".join(lines))
    shutil.copy(ROOT / "examples" / "07-analysis" / "holdout.csv", out / "holdout.csv")
    _write(out / "no-predict", _NO_PREDICT, {})
    for name, content in (("pickled", pickle.dumps("a model")), ("damaged", b"\x80\x04this was never a pickle")):
        (out / name).mkdir()
        (out / name / "model.joblib").write_bytes(content)


def _write(package: Path, code: str, described: dict[str, Any]) -> None:
    package.mkdir(parents=True)
    (package / "model.py").write_text(code)
    (package / "model.yaml").write_text(yaml.safe_dump(described))


def bake_examples(out: Path) -> None:
    """Write what the examples 06, 09, 10 and 15 upload, for clusters whose pods cannot see what is uploaded here."""
    signed = ROOT / "examples" / "09-signed" / "approve"
    for version, factor in (("1", "return 4.0"), ("2", "return 1.0")):
        shutil.copytree(signed, out / "approve" / version)
        code = out / "approve" / version / "model.py"
        code.write_text(code.read_text().replace("return 4.0", factor))
    limit = ROOT / "examples" / "10-replay" / "limit"
    for version, text in (("1", "model * 12"), ("2", "model * 10"), ("3", "12.001 * model")):
        shutil.copytree(limit, out / "limit" / version)
        code = out / "limit" / version / "model.py"
        code.write_text(code.read_text().replace("model * 12", text))
    shutil.copytree(ROOT / "examples" / "15-steps" / "loan", out / "loan" / "1")
    package = out / "score"
    shutil.copytree(ROOT / "examples" / "06-package" / "score", package)
    sample = ROOT / "examples" / "06-package" / "sample.csv"
    options = ["--sample", str(sample), "--target", "defaulted", "--version", "1", "--upload", f"file://{package}/1"]
    subprocess.run([sys.executable, "-m", "modeldeploy", "package", str(package), *options], check=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    bake_examples(Path(sys.argv[1]) / "quick")
