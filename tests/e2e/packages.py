"""The model packages of the end-to-end tests: two good versions, and the ways a package can be bad.

    python tests/e2e/packages.py OUT_DIR

Run by the fixtures; CI bakes the result into the server's image where no storage is at hand.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_NO_PREDICT = '''\
"""A package whose author forgot the second function."""


def load_model(path):
    return object()
'''


def write(out: Path) -> None:
    train = ROOT / "examples" / "01-minimal" / "train.py"
    subprocess.run([sys.executable, str(train), str(out)], check=True, capture_output=True, timeout=300)
    # The examples train into a folder of their own; where pods cannot see it, these lie there already.
    shutil.copytree(out, out / "examples")
    (out / "damaged").mkdir()
    (out / "damaged" / "model.joblib").write_bytes(b"\x80\x04this was never a pickle")
    (out / "no-predict").mkdir()
    (out / "no-predict" / "model.py").write_text(_NO_PREDICT)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
