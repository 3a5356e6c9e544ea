"""`modeldeploy fleet`: what all models use and cost, and which of them nobody asks."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modeldeploy.durations import parse_duration
from modeldeploy.fleet.rates import BadRates, Rates
from modeldeploy.fleet.report import document_of, fleet_of
from modeldeploy.fleet.table import fleet_table, summary_lines
from modeldeploy.fleet.usage import Look, ModelUse, by_pod, use_of
from modeldeploy.kube import PODS
from modeldeploy.requests import Refused
from modeldeploy.rollout import GROUP
from modeldeploy.session import Session

if TYPE_CHECKING:
    from modeldeploy.dashboard.view.pods import Pod

Key = tuple[str, str]
#: Pods that are asked at once.
_AT_ONCE = 16


class Output(StrEnum):
    """Forms of the report."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


def fleet(
    session: Session,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")] = False,
    rates: Annotated[
        Path | None,
        typer.Option(help="YAML with currency, cpuHour, gibHour, gpuHour; without it no cost.", show_default=False),
    ] = None,
    over: Annotated[
        str, typer.Option(help="Time between two looks at the pods; 0s: one look, averages since the pods started.")
    ] = "10s",
    unasked_after: Annotated[str, typer.Option(help="Time without a request after which nobody asks a model.")] = "1d",
    output: Annotated[Output, typer.Option("--output", "-o", help="table, wide, json or yaml.")] = Output.TABLE,
) -> None:
    """Show what every model uses and costs, those first that waste most, and the ones that nobody asks.

    The pods are asked for their metrics through the API server, which needs the right to get pods/proxy.
    """
    try:
        import modeldeploy.dashboard.exposition  # noqa: F401 - reads what pods answer
    except ModuleNotFoundError as error:
        missing = f"fleet needs {error.name}, which is not installed: pip install 'modeldeploy[dashboard]'"
        raise Refused(missing) from error
    card = read_rates(rates) if rates is not None else None
    pause, quiet = (_duration(name, text) for name, text in (("--over", over), ("--unasked-after", unasked_after)))
    models = [(one.namespace, one.name) for one in session.rollouts(everywhere=all_namespaces)]
    if not models and output in (Output.TABLE, Output.WIDE):
        where = "any namespace" if all_namespaces else f"namespace {session.namespace}"
        print(f"no ModelDeployments in {where}", file=sys.stderr)
        return
    pods = _pods(session, everywhere=all_namespaces)
    earlier = _looks(session, pods) if pause.total_seconds() else {}
    time.sleep(pause.total_seconds())
    looks = _looks(session, pods)
    uses = [_use(key, pods.get(key, ()), looks, earlier) for key in models]
    found = fleet_of(uses, card, now=session.now(), unasked_after=quiet)
    if output is Output.JSON:
        print(json.dumps(document_of(found), indent=2))
    elif output is Output.YAML:
        import yaml

        print(yaml.safe_dump(document_of(found), sort_keys=False, allow_unicode=True), end="")
    else:
        wide = output is Output.WIDE
        session.show(fleet_table(found, now=session.now(), with_namespace=all_namespaces, is_wide=wide))
        for line in summary_lines(found):
            print(line, file=sys.stderr)


def read_rates(path: Path) -> Rates:
    """Read a rate card. Raises `Refused`."""
    import yaml

    try:
        return Rates.from_document(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (BadRates, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Refused(f"{path}: {' '.join(str(error).split())}") from error


def _use(key: Key, pods: "Sequence[Pod]", looks: Mapping[str, Look], earlier: Mapping[str, Look]) -> ModelUse:
    requested = {pod.path: pod.requested for pod in pods}
    metered = {pod.path for pod in pods if pod.is_metered}
    return use_of(*key, by_pod(looks, earlier, requested, metered))


def _pods(session: Session, *, everywhere: bool) -> "Mapping[Key, Sequence[Pod]]":
    """The running pods, by their model."""
    from modeldeploy.dashboard.view.pods import Pod

    selector = f"{GROUP}/name,app.kubernetes.io/component=model-server"
    bodies = session.kube.list(PODS, session.namespace, everywhere=everywhere, labels=selector)
    found: dict[Key, list[Pod]] = {}
    for pod in map(Pod.from_body, bodies):
        if pod.is_running:
            found.setdefault(pod.key, []).append(pod)
    return found


def _looks(session: Session, pods: "Mapping[Key, Sequence[Pod]]") -> Mapping[str, Look]:
    """What each pod has counted; pods that do not answer are left out. Raises `Refused` where none may be asked."""
    from modeldeploy.dashboard.exposition import LOOKED_AT, look_of, series_of
    from modeldeploy.dashboard.reaching import PodSilent, ThroughApiServer

    reader, refusals = ThroughApiServer(session.kube), []

    def look(pod: "Pod") -> tuple[str, Look] | None:
        try:
            answer = series_of(reader.read(pod, "/metrics", {"name[]": list(LOOKED_AT)}))
        except PodSilent as error:
            if error.is_forbidden:
                refusals.append(str(error))
            return None
        except ValueError:
            return None
        return pod.path, look_of(answer, at=time.time())

    everyone = [pod for own in pods.values() for pod in own]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        found = dict(one for one in threads.map(look, everyone) if one is not None)
    if refusals and not found:
        raise Refused(f"no pod may be asked, which needs the right to get pods/proxy: {refusals[0]}")
    return found


def _duration(option: str, text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from None
