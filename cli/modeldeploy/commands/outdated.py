"""`modeldeploy outdated`: which models still run what an older operator made."""

import sys
from typing import Annotated

import typer

from modeldeploy.session import Session
from modeldeploy.view import outdated_of

OUTDATED = 1
UNKNOWN = 2


def outdated(
    session: Session,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")] = False,
) -> None:
    """Show the models whose stable revision has another server image or pod template than a new one would have.

    An upgrade of the operator, or another default image, restarts no pod: a revision keeps the pod template that
    it was made with. `modeldeploy refresh NAME` rolls out the current one by the model's strategy. An image that
    spec.server.image names stays until that field changes.

    Exit status: 0 when no model is outdated, 1 when some are, 2 when the operator has not reported on some yet.
    """
    rollouts = session.rollouts(everywhere=all_namespaces)
    found = [one for one in rollouts if one.server is not None and one.server.is_outdated]
    unknown = [one for one in rollouts if one.server is None and one.stable and one.phase != "Pending"]
    if found:
        session.show(outdated_of(found, with_namespace=all_namespaces))
        refresh = "modeldeploy refresh NAME"
        print(f"{len(found)} of {len(rollouts)} outdated; to roll out the current one: {refresh}", file=sys.stderr)
    for one in unknown:
        print(
            f"{one.namespace}/{one.name}: the operator has not reported its server image; upgrade it", file=sys.stderr
        )
    if not found and not unknown:
        print(f"none of {len(rollouts)} outdated", file=sys.stderr)
    raise typer.Exit(OUTDATED if found else UNKNOWN if unknown else 0)
