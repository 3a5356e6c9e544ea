"""The model packages of the end-to-end tests: two good versions, and the ways a package can be bad.

    python tests/e2e/packages.py OUT_DIR

Run by the fixtures; CI bakes the result into the server's image where no storage is at hand.

Under `quick/` lie the same models as ONNX graphs: a pod of them is ready in a quarter of the processor time that the
import of scikit-learn takes, and most of these tests are about pods and not about their model's library.
"""

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
from skl2onnx import to_onnx

ROOT = Path(__file__).resolve().parents[2]

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
    return (inputs[:, 0] > 14).astype(int)
'''

#: Versions of one model: what they do besides, and the code for it.
JUDGED = {
    "1": ("nothing else", "pass"),
    "2-raises": ("fails at every tenth request", "assert answered % 10, 'every tenth'"),
    "3-slow": ("takes its time", "time.sleep(0.06)"),
    "4-same": ("nothing else", "pass"),
}


def write(out: Path) -> None:
    train = ROOT / "examples" / "01-minimal" / "train.py"
    subprocess.run([sys.executable, str(train), str(out)], check=True, capture_output=True, timeout=300)
    # The examples train into a folder of their own; where pods cannot see it, these lie there already.
    shutil.copytree(out, out / "examples")
    for package in [*out.glob("breast-cancer/*"), *out.glob("wine/*")]:
        write_quick(package, out / "quick" / package.relative_to(out))
    (out / "damaged").mkdir()
    (out / "damaged" / "model.joblib").write_bytes(b"\x80\x04this was never a pickle")
    for version, (what, does) in JUDGED.items():
        (out / "judged" / version).mkdir(parents=True)
        (out / "judged" / version / "model.py").write_text(_JUDGED.format(what=what, does=does))
        (out / "judged" / version / "model.yaml").write_text(f"version: {version!r}\n")
    (out / "no-predict").mkdir()
    (out / "no-predict" / "model.py").write_text(_NO_PREDICT)


def write_quick(package: Path, out: Path) -> None:
    model = joblib.load(package / "model.joblib")
    out.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter reads attributes that scikit-learn will drop
        graph = to_onnx(model, np.zeros((1, model.n_features_in_), np.float32), options={"zipmap": False})
    (out / "model.onnx").write_bytes(graph.SerializeToString())
    described = (package / "model.yaml").read_text()
    (out / "model.yaml").write_text(described.replace("format: sklearn", "format: onnx"))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
