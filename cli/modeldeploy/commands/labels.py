"""`modeldeploy labels`: labels that come days later, joined to the input log in a Job with the model's own image."""

import json
import time
from typing import Annotated, Any

import typer

from modeldeploy import late_labels
from modeldeploy.commands.show import Name
from modeldeploy.kube import DEPLOYMENTS, JOBS, PODS
from modeldeploy.plain import plain
from modeldeploy.requests import NoAnswer, Refused
from modeldeploy.rollout import GROUP
from modeldeploy.session import Session

_INTERVAL = 1.0


def labels(
    session: Session,
    name: Name,
    labels: Annotated[str, typer.Option(help="Storage URI of a CSV, JSON lines or Parquet table.")],
    log: Annotated[
        str | None, typer.Option(help="Storage URI of the input log; default is its sink.", show_default=False)
    ] = None,
    id_: Annotated[str, typer.Option("--id", help="Column with the id of the request.")] = "id",
    label: Annotated[str, typer.Option(help="Column with the label.")] = "label",
    row: Annotated[str, typer.Option(help="Column with the row of the request, from 0.", show_default=False)] = "",
    time_: Annotated[
        str, typer.Option("--time", help="Column with the time, which tells what is late.", show_default=False)
    ] = "",
    since: Annotated[str, typer.Option(help="Read the log from here: 2026-01-31, 7d or 12h.", show_default=False)] = "",
    classes: Annotated[
        str, typer.Option(help="The model's classes in their order, separated by commas.", show_default=False)
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report, and send nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also send labels that were sent before.")] = False,
    timeout: Annotated[int, typer.Option(help="Seconds to wait for the Job, which goes on then.", min=1)] = 3600,
) -> None:
    """Score a model's revisions by labels that have come later, and count the labels as feedback, each once."""
    given = {"--row": row, "--time": time_, "--since": since, "--classes": classes}
    model = session.body(name)
    words = ["--labels", late_labels.storage_uri(labels, "--labels"), "--id", id_, "--label", label]
    words += ["--log", late_labels.storage_uri(log, "--log") if log else late_labels.sink_of(model)]
    words += [word for option, value in given.items() if value for word in (option, value)]
    words += ["--dry-run"] * dry_run + ["--again"] * again
    addresses = {} if dry_run else late_labels.addresses_of(session.pods(name))
    words += [word for revision, address in addresses.items() for word in ("--send", f"{revision}={address}")]
    job = session.kube.create(JOBS, late_labels.job_of(model, _deployment(session, name), words), session.namespace)
    report = _report(session, str(job["metadata"]["name"]), timeout)
    for line in late_labels.lines_of(report):
        session.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _deployment(session: Session, name: str) -> Any:
    """The Deployment of the stable revision. Raises `Refused` where none is there."""
    stable = session.rollout(name).stable
    found = session.kube.list(DEPLOYMENTS, session.namespace, labels=f"{GROUP}/name={name},{GROUP}/revision={stable}")
    if not stable or not found:
        raise Refused(f"{name} has no revision that is live, whose image could join the labels")
    return found[0]


def _report(session: Session, job: str, timeout: int) -> Any:
    """Wait for a Job, and return what it reports. Raises `Refused` when it fails, `NoAnswer` when it takes longer."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        status = session.kube.get(JOBS, job, session.namespace).get("status") or {}
        ended = {one["type"] for one in status.get("conditions") or () if one["status"] == "True"}
        if ended & {"Complete", "Failed"}:
            pods = session.kube.list(PODS, session.namespace, labels=f"batch.kubernetes.io/job-name={job}")
            return _answer(job, late_labels.last_message(pods), failed="Failed" in ended)
        time.sleep(_INTERVAL)
    raise NoAnswer(f"Job {job} has not ended within {timeout} s; its log will have the report")


def _answer(job: str, message: str, *, failed: bool) -> Any:
    try:
        found = plain(json.loads(message))
    except ValueError:
        raise Refused(f"Job {job} {'failed' if failed else 'has no report'}: see kubectl logs job/{job}") from None
    if failed:
        hint = f" {found['hint']}" if found.get("hint") else ""
        raise Refused(f"Job {job} failed: {found.get('message')}.{hint}")
    return found
