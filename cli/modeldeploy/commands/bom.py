"""`modeldeploy bom`: what a package is made of, in the format CycloneDX."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from modeldeploy.requests import Refused

_EPOCH = "SOURCE_DATE_EPOCH"


def bom(
    folder: Annotated[Path, typer.Argument(metavar="PACKAGE", help="The package, as `modeldeploy package` made it.")],
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="Data that the model was trained with: a file or folder, whose digest is listed, or a URI. Repeat it.",
            show_default=False,
        ),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(help="What `python -m model_server evaluate` wrote: its metrics, those of groups too."),
    ] = None,
) -> None:
    """Print a bill of materials (CycloneDX 1.6): model, data sets, libraries, metrics, files and signature."""
    print(document(folder, dataset or [], evaluation), end="")


def document(folder: Path, datasets: list[str], evaluation: Path | None) -> str:
    """The bill of materials of a package. Raises Refused."""
    # No other command needs these, and each of them starts first.
    from importlib.metadata import version

    from modeldeploy.bom.document import bom_of
    from modeldeploy.bom.package import read_dataset, read_evaluation, read_package

    package = read_package(folder)
    if package.libraries is None:
        print("no requirements.txt in the package: its libraries are not listed", file=sys.stderr)
    return bom_of(
        package,
        list(map(read_dataset, dict.fromkeys(datasets))),
        read_evaluation(evaluation) if evaluation else None,
        tool_version=version("modeldeploy"),
        made_at=_epoch(os.environ.get(_EPOCH, "")),
    )


def _epoch(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError):
        raise Refused(f"{_EPOCH} is {text!r}: write seconds since 1970") from None
