"""`modeldeploy lint`: what the API server would refuse, without one, with the line in the file."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def lint(
    files: Annotated[
        list[Path],
        typer.Option("--filename", "-f", help="Manifest to check; - reads standard input. May be repeated."),
    ],
) -> None:
    """Check manifests offline: exit status 0 when nothing is wrong, 1 otherwise."""
    # The libraries of schema and rules take longer to import than all other commands to run.
    from modeldeploy.lint import read_definition
    from modeldeploy.lint.files import check_file

    definition = read_definition()
    checked, wrong = 0, 0
    for file in files:
        for line in check_file(file, definition):
            if line is None:
                checked += 1
            else:
                wrong += 1
                print(line)
    summary = f"{checked} {definition.kind}{'' if checked == 1 else 's'} checked, {wrong or 'nothing'} wrong"
    print(summary, file=sys.stderr)
    raise typer.Exit(1 if wrong or not checked else 0)
