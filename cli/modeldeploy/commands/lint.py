"""`modeldeploy lint`: what the API server would refuse, without one, with the line in the file."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def lint(
    files: Annotated[
        list[Path],
        typer.Option("--filename", "-f", help="Manifest, or folder of them; - reads standard input. May be repeated."),
    ],
) -> None:
    """Check manifests offline: exit status 0 when nothing is wrong, 1 otherwise, also when a file has none.

    A format or a scheme that is not built in is a warning: it may be a plug-in's.
    """
    # The libraries of schema and rules take longer to import than all other commands to run.
    from modeldeploy.lint import read_definition
    from modeldeploy.lint.files import check_file

    definition = read_definition()
    found = [check_file(file, definition) for file in files]
    problems = [line for checked in found for line in checked.problems]
    for line in [*problems, *(line for checked in found for line in checked.warnings)]:
        print(line)
    count = sum(checked.count for checked in found)
    summary = f"{count} {definition.kind}{'' if count == 1 else 's'} checked, {len(problems) or 'nothing'} wrong"
    print(summary, file=sys.stderr)
    raise typer.Exit(1 if problems else 0)
