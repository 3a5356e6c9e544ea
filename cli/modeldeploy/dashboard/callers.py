"""As whom the dashboard acts: on a user's machine as that user, in a cluster as the bearer of the request's token."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console

from modeldeploy import asking
from modeldeploy.dashboard.view.actions import ANSWERED, patch_of
from modeldeploy.dashboard.view.pods import Pod
from modeldeploy.kube import Kube
from modeldeploy.session import Session

#: What RFC 6750 allows in a bearer token.
_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9._~+/-]+=*)")


class ReadOnly(Exception):
    """Nobody has signed in; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Callers:
    """Opens connections for requests. `is_shared`: nobody acts without a token of their own."""

    kube: Kube
    is_shared: bool

    def can_act(self, authorization: str) -> bool:
        """Whether a request brings what it needs to change something; the API server decides whether it may."""
        return not self.is_shared or _BEARER.fullmatch(authorization) is not None

    @contextmanager
    def kube_of(self, authorization: str) -> Iterator[Kube]:
        """Open a connection as the caller. Raises `ReadOnly`."""
        if not self.is_shared:
            yield self.kube
            return
        match = _BEARER.fullmatch(authorization)
        if match is None:
            raise ReadOnly(
                "This dashboard is read-only without a token: ask for it through a proxy that signs you in and sends "
                "Authorization: Bearer."
            )
        kube = self.kube.with_token(match[1])
        try:
            yield kube
        finally:
            kube.close()


def act(kube: Kube, namespace: str, name: str, verb: str, *, state: str, revision: str, timeout: float) -> str:
    """Make a request of a rollout, and return what has happened.

    Raises:
        Moved, Refused, NoAnswer, UnknownName, KubeError, KubeUnreachable: it was not done; the message says why.
    """
    session = Session(kube, namespace, Console(quiet=True))
    rollout = session.rollout(name)
    kept = session.kept_revisions(name) if verb == "undo" else None
    user = session.user() if verb in ANSWERED else ""
    patch = patch_of(verb, rollout, state=state, revision=revision, kept=kept, now=datetime.now(UTC), user=user)
    if verb in ANSWERED:
        return asking.ask(session, name, patch, timeout=timeout)
    asking.write(session, name, patch)
    done = {"pause": "paused", "resume": "resumed", "refresh": "a new revision of the same spec is rolled out"}
    return f"{name}: {done[verb]}"


def scheme_of(pods: list[Pod]) -> str:
    """Return what a model's Service speaks, which is also the name of its port."""
    return "https" if any(pod.scheme == "https" for pod in pods) else "http"
