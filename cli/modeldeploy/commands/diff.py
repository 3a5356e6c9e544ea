"""`modeldeploy diff`: what an apply would change, and whether it would roll."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from modeldeploy.changes import Effect, effect_of, request_for, unified
from modeldeploy.changes.applying import Way
from modeldeploy.changes.effect import sources_of
from modeldeploy.kube import DEPLOYMENTS, MODELDEPLOYMENTS, Body, KubeError
from modeldeploy.plain import plain
from modeldeploy.requests import Refused
from modeldeploy.rollout import GROUP
from modeldeploy.session import INSTALL, Session

CHANGED = 1
REFUSED = 3
#: What the API server answers when it does not take a manifest: not understood, not allowed, owned by others, invalid.
_REFUSALS = (400, 403, 409, 422)


def diff(
    session: Session,
    files: Annotated[
        list[Path],
        typer.Option("--filename", "-f", help="Manifest, or folder of them; - reads standard input. May be repeated."),
    ],
) -> None:
    """Show what applying manifests would change, and which of the changes make a new revision.

    The API server is asked with a dry run, so that its defaults, its rules and the admission of the cluster are in the
    answer; nothing is stored. An object is changed as it was applied last: by kubectl, or by a server-side apply of the
    same field manager. It needs the rights of that apply.

    Exit status: 0 when nothing would change, 1 when something would, 3 when the API server refuses a manifest.
    """
    effects, refused = list[Effect](), 0
    for body in _manifests(files):
        namespace = str(body["metadata"].get("namespace") or session.namespace)
        shown = f"{namespace}/{body['metadata']['name']}"
        try:
            effect = _compare(session, body, namespace, shown)
        except KubeError as error:
            if error.code not in _REFUSALS:
                raise
            refused += 1
            print(f"{shown}: would be refused: {plain(str(error))}")
            continue
        effects.append(effect)
        print(f"{shown}: {plain(effect.message)}")
    changes, rolls = sum(one.is_change for one in effects), sum(one.rolls for one in effects)
    count = len(effects) + refused
    print(f"{count} compared: {changes} would change, {rolls} would roll, {refused} would be refused", file=sys.stderr)
    raise typer.Exit(REFUSED if refused else CHANGED if changes else 0)


def _compare(session: Session, body: Body, namespace: str, shown: str) -> Effect:
    """Print the difference of one object, and return what comes of it."""
    live = _live(session, str(body["metadata"]["name"]), namespace)
    after = _dry_run(session, body, live, namespace)
    for line in unified(live, after, shown):
        print(line)
    return effect_of(live, after, {} if live is None else _kept(session, str(body["metadata"]["name"]), namespace))


def _manifests(files: list[Path]) -> Iterator[Body]:
    """The ModelDeployments of the files, each with a name."""
    # The libraries of lint take longer to import than all other commands to run.
    from modeldeploy.lint.files import read_objects

    count, others = 0, set[str]()
    for file in files:
        for body in read_objects(file):
            kind = str(body.get("kind") or "") if isinstance(body, dict) else ""
            if kind != "ModelDeployment":
                others.add(kind)
                continue
            if not isinstance(body.get("metadata"), dict) or not body["metadata"].get("name"):
                raise Refused(f"{file}: a ModelDeployment has no metadata.name")
            count += 1
            yield body
    left = ", ".join(sorted(filter(None, others)))
    if not count:
        raise Refused(f"{', '.join(map(str, files))}: has no ModelDeployment; there are: {left or 'no objects'}")
    if left:
        print(f"not compared: {left} (kubectl diff does)", file=sys.stderr)


def _live(session: Session, name: str, namespace: str) -> Body | None:
    try:
        return session.kube.get(MODELDEPLOYMENTS, name, namespace)
    except KubeError as error:
        if error.code != 404:
            raise
        if not session.kube.versions(GROUP):
            reason = f"the API server has no ModelDeployments; install modeldeploy's chart in the cluster: {INSTALL}"
            raise KubeError(404, error.reason, reason) from error
    return None


def _dry_run(session: Session, body: Body, live: Body | None, namespace: str) -> Body:
    request, kube = request_for(body, live), session.kube
    if request.way is Way.CREATE:
        return kube.create(MODELDEPLOYMENTS, request.body, namespace, dry_run=True)
    if request.way is Way.APPLY:
        return kube.apply(MODELDEPLOYMENTS, request.body, namespace, manager=request.manager, dry_run=True)
    return kube.merge(MODELDEPLOYMENTS, str(body["metadata"]["name"]), request.body, namespace, dry_run=True)


def _kept(session: Session, name: str, namespace: str) -> dict[str, Body]:
    """What the revisions that the cluster has were made from; none where Deployments may not be read."""
    try:
        deployments = session.kube.list(DEPLOYMENTS, namespace, labels=f"{GROUP}/name={name}")
    except KubeError as error:
        if error.code != 403:
            raise
        return {}
    return {revision: dict(source) for revision, source in sources_of(deployments).items()}
