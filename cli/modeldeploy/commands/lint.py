"""`modeldeploy lint`: what the API server would refuse, without one, with the line in the file."""

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from modeldeploy.plain import plain


def lint(
    files: Annotated[
        list[Path],
        typer.Option("--filename", "-f", help="Manifest, or folder of them; - reads standard input. May be repeated."),
    ],
) -> None:
    """Check manifests offline: exit status 0 when nothing is wrong, 1 otherwise, also when a file has none.

    ModelDeployments, ModelBatches and ModelPools are checked; objects of other kinds are passed over.
    A format or a scheme that is not built in is a warning: it may be a plug-in's.
    """
    # The libraries of schema and rules take longer to import than all other commands to run.
    from modeldeploy.lint import read_definitions
    from modeldeploy.lint.files import check_file

    definitions = read_definitions()
    found = [check_file(file, definitions) for file in files]
    problems = [line for checked in found for line in checked.problems]
    for line in [*problems, *(line for checked in found for line in checked.warnings)]:
        # A manifest is a stranger's: what it names stays on its line, and steers neither a terminal nor a CI's log.
        print(plain(line).replace("\n", "\\n"))
    counts = Counter(kind for checked in found for kind in checked.checked)
    told = ", ".join(_counted(kind, counts[kind]) for kind in definitions if counts[kind]) or "nothing"
    print(f"{told} checked, {len(problems) or 'nothing'} wrong", file=sys.stderr)
    raise typer.Exit(1 if problems else 0)


def _counted(kind: str, count: int) -> str:
    if count == 1:
        return f"1 {kind}"
    return f"{count} {kind}{'es' if kind.endswith('ch') else 's'}"
