"""`modeldeploy import`: deployments of other systems as ModelDeployments, and what of them has no counterpart."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

LOST = 1
_WIDE = 400


def import_(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Manifests with InferenceServices (KServe), SeldonDeployments or Models (Seldon);"
            " model-settings.json (MLServer); config.pbtxt, the folder of a model or a model repository (Triton);"
            " a .mar (TorchServe)."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")],
    storage_uri: Annotated[
        str, typer.Option(help="Where the package is, or will be; default: what the source says, else the folder.")
    ] = "",
    trusted: Annotated[
        bool,
        typer.Option("--trusted", help="Let models be loaded that run code (pickles) and are not pinned by a digest."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with 1 when something of a source has no counterpart.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over what is in the folder.")] = False,
) -> None:
    """Write a ModelDeployment and a package with model.yaml for each model that another system deploys.

    Nothing is sent to a cluster. Standard error lists the fields that have no counterpart here, or another meaning, and
    what to write instead.

    Exit status: 0 when the files were written, 1 with --strict when a field has no counterpart, 3 when a source cannot
    be imported; then nothing is written.
    """
    # The libraries that read and write YAML are not needed to start.
    from modeldeploy.importing import Verdict, write
    from modeldeploy.importing.sources import Options, names_of, read_sources
    from modeldeploy.importing.table import table_of

    options = Options(storage_uri=storage_uri.rstrip("/"), trusted=trusted)
    found = read_sources(sources, options)
    names = list(names_of(found))
    uris = [options.storage_uri if len(found) == 1 else f"{options.storage_uri}/{name}" for name in names]
    written = [
        write(imported, output, uri if options.storage_uri else "", force=force)
        for imported, uri in zip(found, uris, strict=True)
    ]
    for imported, one in zip(found, written, strict=True):
        print(one.manifest)
        if one.package is not None:
            print(one.package)
        if imported.conversion.findings:
            _show(table_of(imported.conversion.findings))
    for shown, others in {imported.shown: imported.left_out for imported in found if imported.left_out}.items():
        print(f"{shown}: left out, as these kinds are not imported: {', '.join(others)}", file=sys.stderr)
    for one in written:
        if one.is_local:
            print(f"{one.package} is on this machine only; for a cluster:", file=sys.stderr)
            print(f"  modeldeploy package {one.package} --upload s3://BUCKET/PATH", file=sys.stderr)
    is_lost = any(one.verdict is Verdict.LOST for imported in found for one in imported.conversion.findings)
    raise typer.Exit(LOST if strict and is_lost else 0)


def _show(table: Table) -> None:
    """Print to standard error; elsewhere than on a terminal each row is one line, without blanks at its end."""
    console = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDE)
    with console.capture() as capture:
        console.print(table)
    print(*(line.rstrip() for line in capture.get().splitlines()), sep="\n", file=sys.stderr)
