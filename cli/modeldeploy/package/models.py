"""What a model's own file says about its features, without the libraries where the file is readable as it is."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeldeploy.package.selected import dropped_names
from modeldeploy.requests import Refused

PICKLES = (".joblib", ".pkl", ".pickle")


@dataclass(frozen=True, slots=True)
class Trained:
    """The columns that a model was trained with, and those of them that it drops before anything looks at them."""

    names: Sequence[str] = ()
    dropped: Sequence[str] = ()


def trained_with(folder: Path, *, trusted: bool) -> Trained:
    """The columns that the model was trained with, none when its file does not tell.

    A pickle runs code when it is read, so it is read only when `trusted`. Raises Refused when that fails.
    """
    for path in sorted(folder.iterdir()):
        suffix = path.suffix.lower()
        if suffix in PICKLES and trusted:
            found = _of_pickle(path)
        elif suffix == ".json":
            found = Trained(_of_xgboost(path))
        elif suffix in (".txt", ".lgb", ".lightgbm"):
            found = Trained(_of_lightgbm(path))
        else:
            found = Trained()
        if found.names:
            return found
    return Trained()


def unread_pickle(folder: Path, *, trusted: bool) -> str:
    """Return the name of the pickle that `trained_with` has not read; "" where there is none."""
    return "" if trusted else next((one.name for one in sorted(folder.iterdir()) if one.suffix.lower() in PICKLES), "")


def _of_pickle(path: Path) -> Trained:
    try:
        import joblib

        model: Any = joblib.load(path)
    except Exception as error:
        # Unpickling runs code of the model's libraries, which may raise anything.
        raise Refused(
            f"{path.name} cannot be read here: {type(error).__name__}: {error}; "
            "run this where the model was trained, or leave --trusted out and take the names from --sample"
        ) from None
    return Trained([str(name) for name in getattr(model, "feature_names_in_", ())], dropped_names(model))


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
