"""What the probabilities of a package's model mean, measured on labelled rows: `calibration` in model.yaml.

The rows are predicted by the model server itself, in a process of its own, so that every format has its calibration,
and that of the probabilities that are served. It has to be installed here, with the libraries of the model.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modeldeploy.requests import Refused

FIELD = "calibration"
_SERVER = "model_server"


def measure(folder: Path, holdout: Path, target: str, environ: Mapping[str, str], *, trusted: bool) -> dict[str, Any]:
    """The block `calibration`. Raises Refused with what the server says against it."""
    if not holdout.is_file():
        raise Refused(f"{holdout} is no file")
    if find_spec(_SERVER) is None:
        raise Refused(
            "the model server predicts the holdout, and it is not installed here: install modeldeploy[server] with the"
            " libraries of the model, such as modeldeploy[server,server-sklearn]"
        )
    with tempfile.TemporaryDirectory(prefix="modeldeploy-calibrate-") as temporary:
        log = Path(temporary) / "termination"
        # What may be set here for a server of somebody's own is not meant.
        inherited = {name: value for name, value in environ.items() if not name.startswith("MODEL_SERVER_")}
        settings = {
            "MODEL_SERVER_STORAGE_URI": folder.resolve().as_uri(),
            "MODEL_SERVER_TERMINATION_LOG": str(log),
            "MODEL_SERVER_TRUSTED": str(trusted).lower(),
        }
        command = [
            sys.executable,
            "-P",
            "-m",
            _SERVER,
            "calibrate",
            "--data",
            holdout.resolve().as_uri(),
            "--target",
            target,
        ]
        done = subprocess.run(command, env=inherited | settings, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refused(_reason(log, done))
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def write(path: Path, calibration: Mapping[str, Any], *, replace: bool) -> None:
    """Put the block into model.yaml, which may not have one unless `replace`. Raises Refused."""
    import yaml

    text = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise Refused(f"{path} is not YAML: {error}") from None
    if FIELD in document:
        if not replace:
            raise Refused(f"{path} has a calibration: measure it again with --force")
        del document[FIELD]
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    # Added to the text, which keeps the comments of whoever wrote it.
    separator = "" if not text or text.endswith("\n") else "\n"
    block = yaml.safe_dump({FIELD: dict(calibration)}, sort_keys=False, allow_unicode=True, default_flow_style=None)
    path.write_text(text + separator + block, encoding="utf-8")


def _reason(log: Path, done: subprocess.CompletedProcess[str]) -> str:
    """What the server wrote as it gave up, else the end of what it printed."""
    try:
        said = json.loads(log.read_text(encoding="utf-8"))
        if said["reason"] == "ArtifactNotTrusted":
            return "the holdout is predicted by the model, whose file runs code when it is loaded: add --trusted"
        return f"{said['message']}. {said['hint']}" if said["hint"] else str(said["message"])
    except (OSError, ValueError, KeyError):
        lines = (done.stderr or done.stdout).strip().splitlines()
        return f"the model server ended with {done.returncode}: {lines[-1] if lines else 'it said nothing'}"
