"""Makes a request of a rollout and waits for what the operator answers. Used by the command line and the dashboard."""

import time

from modeldeploy.kube import MODELDEPLOYMENTS
from modeldeploy.requests import NoAnswer, Patch, Refused, answer_to
from modeldeploy.session import Session

#: Seconds that the operator has for its answer, and between two looks for it.
ANSWER_TIMEOUT = 10.0
_INTERVAL = 0.2


def write(session: Session, name: str, patch: Patch) -> None:
    """Write a request into its ModelDeployment."""
    session.kube.merge(MODELDEPLOYMENTS, name, patch, session.namespace)


def ask(session: Session, name: str, patch: Patch, *, timeout: float) -> str:
    """Write a request, and return what the operator has done.

    Raises:
        Refused: the operator did not do it; the message says why.
        NoAnswer: it has not answered within `timeout` seconds.
    """
    write(session, name, patch)
    deadline = time.monotonic() + timeout
    while (answer := answer_to(patch, session.body(name).get("status") or {})) is None:
        if time.monotonic() > deadline:
            raise NoAnswer(
                f"{name}: requested, but the operator has not answered within {timeout:.0f} s; is it running?"
            )
        time.sleep(_INTERVAL)
    if not answer.is_accepted:
        raise Refused(f"{name}: {answer.message}")
    return answer.message
