"""`modeldeploy report`: a rollout as a page."""

from pathlib import Path
from typing import Annotated

import typer

from modeldeploy.commands.show import Name
from modeldeploy.report.page import page_of
from modeldeploy.report.story import JudgedRollout
from modeldeploy.session import Session


def report(
    session: Session,
    name: Name,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to write it; default is NAME-REVISION.html.", show_default=False),
    ] = None,
) -> None:
    """Write the last judged rollout as one HTML page: weights, rates, evidence, verdicts."""
    rollout = JudgedRollout.from_body(session.body(name))
    path = output or Path(f"{rollout.name}-{rollout.canary}.html")
    try:
        path.write_text(page_of(rollout), encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror}", param_hint="--output") from None
    session.console.print(f"wrote {path}", markup=False, highlight=False)
