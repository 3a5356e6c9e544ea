"""As whom the dashboard acts: on a user's machine as that user, in a cluster as the bearer of the request's token."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from modeldeploy import asking
from modeldeploy.dashboard.view.actions import ANSWERED, patch_of
from modeldeploy.dashboard.view.pods import Pod
from modeldeploy.dashboard.view.prediction import PATH, Form, NoForm, form_of
from modeldeploy.kube import SERVICES, Kube, KubeError
from modeldeploy.plain import plain
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


def form(kube: Kube, namespace: str, name: str, scheme: str) -> Form:
    """Return the form of a model's prediction. Raises `NoForm`, `KubeError`, `KubeUnreachable`."""
    return form_of(_answer(kube, namespace, name, scheme, "/openapi.json", None)[1])


def predict(
    kube: Kube, namespace: str, name: str, scheme: str, body_of: Callable[[Form], dict[str, Any]]
) -> tuple[int, Any]:
    """Ask a model, and return HTTP status and answer. Raises `BadValue`, `NoForm`, `KubeError`, `KubeUnreachable`."""
    body = body_of(form(kube, namespace, name, scheme))
    return _answer(kube, namespace, name, scheme, PATH, body)


def scheme_of(pods: list[Pod]) -> str:
    """Return what a model's Service speaks, which is also the name of its port."""
    return "https" if any(pod.scheme == "https" for pod in pods) else "http"


def _answer(
    kube: Kube, namespace: str, name: str, scheme: str, path: str, body: Mapping[str, Any] | None
) -> tuple[int, Any]:
    method = "get" if body is None else "post"
    try:
        found = kube.relay(SERVICES, f"{scheme}:{name}:{scheme}", path, namespace, method=method, body=body)
    except KubeError as error:
        if error.code != 403:
            raise
        verb = "get" if body is None else "create"
        message = f"You cannot try predictions here: that needs the right to {verb} services/proxy in {namespace}."
        raise KubeError(403, error.reason, message) from error
    try:
        answer = json.loads(found.body)
    except ValueError:
        raise NoForm(f"it answers {path} with {found.status} and no JSON") from None
    if body is None and found.status != 200:
        raise NoForm(f"it answers {path} with {found.status}")
    return found.status, plain(answer)
