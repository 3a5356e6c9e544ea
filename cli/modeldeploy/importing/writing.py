"""Writes what was imported: for each model a ModelDeployment and its package. Used by `commands/importing.py`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from modeldeploy.importing.sources import Imported
from modeldeploy.importing.values import manifest
from modeldeploy.package.digest import files_of, tree_digest
from modeldeploy.requests import Refused

METADATA = "model.yaml"
MANIFEST = "modeldeployment.yaml"
PACKAGE = "package"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Where a model's files are: no package for a server of one's own; `is_local` where it is on this machine only."""

    manifest: Path
    package: Path | None
    is_local: bool


def write(imported: Imported, output: Path, storage_uri: str, *, force: bool) -> Written:
    """Write `output/NAME/modeldeployment.yaml` and `output/NAME/package`.

    Args:
        storage_uri: where the package will be; empty for where it is written.

    Raises:
        Refused: something is there already, and `force` is false.
    """
    conversion = imported.conversion
    folder = output / conversion.name
    package, path = folder / PACKAGE, folder / MANIFEST
    if not force and (path.exists() or package.exists()):
        raise Refused(f"{folder} has been written already: choose another --output, or write over it with --force")
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in conversion.files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        if imported.contents is not None:
            imported.contents.copy(source, package / name)
    if conversion.metadata:
        package.mkdir(exist_ok=True)
        (package / METADATA).write_text(_yaml(conversion.metadata), encoding="utf-8")
    model: dict[str, Any] = {}
    if conversion.files:
        model["storageUri"] = storage_uri or package.resolve().as_uri()
        if conversion.runs_code and not conversion.spec.get("model", {}).get("trusted"):
            model["sha256"] = tree_digest(package, files_of(package))
    path.write_text(_yaml(manifest(conversion, model)), encoding="utf-8")
    return Written(
        manifest=path,
        package=package if package.exists() else None,
        is_local=bool(conversion.files) and not storage_uri,
    )


def _yaml(document: Any) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
