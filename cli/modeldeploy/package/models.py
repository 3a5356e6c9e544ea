"""What a model's own file says about its features, without the libraries where the file is readable as it is."""

import json
from pathlib import Path
from typing import Any

from modeldeploy.requests import Refused

PICKLES = (".joblib", ".pkl", ".pickle")


def feature_names(folder: Path, *, trusted: bool) -> list[str]:
    """The names the model was trained with, [] when its file does not tell.

    A pickle runs code when it is read, so it is read only when `trusted`. Raises Refused when that fails.
    """
    for path in sorted(folder.iterdir()):
        suffix = path.suffix.lower()
        if suffix in PICKLES and trusted:
            names = _of_pickle(path)
        elif suffix == ".json":
            names = _of_xgboost(path)
        elif suffix in (".txt", ".lgb", ".lightgbm"):
            names = _of_lightgbm(path)
        else:
            names = []
        if names:
            return names
    return []


def unread_pickle(folder: Path, *, trusted: bool) -> str:
    """Return the name of the pickle that `feature_names` has not read; "" where there is none."""
    return "" if trusted else next((one.name for one in sorted(folder.iterdir()) if one.suffix.lower() in PICKLES), "")


def _of_pickle(path: Path) -> list[str]:
    try:
        import joblib

        model: Any = joblib.load(path)
    except Exception as error:
        # Unpickling runs code of the model's libraries, which may raise anything.
        raise Refused(
            f"{path.name} cannot be read here: {type(error).__name__}: {error}; "
            "run this where the model was trained, or leave --trusted out and take the names from --sample"
        ) from None
    return [str(name) for name in getattr(model, "feature_names_in_", ())]


def _of_xgboost(path: Path) -> list[str]:
    try:
        document = json.loads(path.read_bytes())
        return [str(name) for name in document["learner"]["feature_names"]]
    except (ValueError, KeyError, TypeError):
        return []


def _of_lightgbm(path: Path) -> list[str]:
    with path.open("rb") as file:
        if not file.readline().startswith(b"tree"):
            return []
        for line in file:
            if line.startswith(b"feature_names="):
                names = line.decode().strip().removeprefix("feature_names=").split(" ")
                # These are made up by LightGBM where nobody gave names.
                return [] if names[0] == "Column_0" else names
    return []
