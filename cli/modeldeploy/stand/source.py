"""Where the source tree lies. Used by everything that needs a file which no package ships."""

from pathlib import Path

from modeldeploy.stand.process import StartError


def checkout() -> Path:
    """Folder of the source tree that this package was installed from in editable mode. Raises `StartError`."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "crds").is_dir():
        raise StartError(f"{root} is no checkout of modeldeploy: run this from a clone, after: make setup")
    return root
