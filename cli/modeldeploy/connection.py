"""Which cluster and namespace a command speaks of: options that go before its name or after it, as kubectl's do.

Used by `app.py`, which hands each command that needs a cluster a `Session`.
"""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from modeldeploy.kube import Impersonation, Kube
from modeldeploy.session import Session

Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", help="Default is $KUBECONFIG, then ~/.kube/config.", show_default=False)
]
KubeContext = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.", show_default=False)]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Default is the context's own.", show_default=False)
]
AsUser = Annotated[
    str | None, typer.Option("--as", help="User to impersonate, as kubectl does.", metavar="USER", show_default=False)
]
AsGroup = Annotated[
    list[str] | None,
    typer.Option("--as-group", help="Group to impersonate; can be repeated.", metavar="GROUP", show_default=False),
]
AsUid = Annotated[str | None, typer.Option("--as-uid", help="UID to impersonate.", metavar="UID", show_default=False)]

_OPTIONS = {
    "kubeconfig": Kubeconfig,
    "kube_context": KubeContext,
    "namespace": Namespace,
    "as_user": AsUser,
    "as_group": AsGroup,
    "as_uid": AsUid,
}
#: Elsewhere than on a terminal lines are for grep, and not to be folded.
_WIDE = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where a command works; None means that nothing was said of it."""

    kubeconfig: Path | None = None
    kube_context: str | None = None
    namespace: str | None = None
    as_user: str | None = None
    as_group: list[str] | None = None
    as_uid: str | None = None

    def or_as(self, other: "Connection") -> "Connection":
        """Return this one, with what was left open taken from another."""
        return Connection(
            kubeconfig=self.kubeconfig or other.kubeconfig,
            kube_context=self.kube_context or other.kube_context,
            namespace=self.namespace or other.namespace,
            as_user=self.as_user or other.as_user,
            as_group=self.as_group or other.as_group,
            as_uid=self.as_uid or other.as_uid,
        )

    def open(self) -> Session:
        """Connect. Raises `KubeconfigError`."""
        impersonation = Impersonation(user=self.as_user or "", groups=tuple(self.as_group or ()), uid=self.as_uid or "")
        kube = Kube.connect(self.kubeconfig, self.kube_context, impersonation)
        return Session(kube, self.namespace or kube.namespace, Console(width=None if sys.stdout.isatty() else _WIDE))


def chosen_first(
    context: typer.Context,
    kubeconfig: Kubeconfig = None,
    kube_context: KubeContext = None,
    namespace: Namespace = None,
    as_user: AsUser = None,
    as_group: AsGroup = None,
    as_uid: AsUid = None,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    """Remember what was said before the command's name."""
    if version:
        print(f"modeldeploy {distribution_version('modeldeploy')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit
    context.obj = Connection(
        kubeconfig=kubeconfig,
        kube_context=kube_context,
        namespace=namespace,
        as_user=as_user,
        as_group=as_group,
        as_uid=as_uid,
    )


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command of typer from one whose first argument is a `Session`; what is said after its name wins."""

    @wraps(command)
    def run(context: typer.Context, **given: Any) -> None:
        chosen = Connection(**{name: given.pop(name) for name in _OPTIONS}).or_as(context.obj)
        session = chosen.open()
        context.call_on_close(session.kube.close)
        command(session, **given)

    own = [one for name, one in inspect.signature(command).parameters.items() if name != "session"]
    by_name = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("context", by_name, annotation=typer.Context),
        *(one.replace(kind=by_name) for one in own),
        *(inspect.Parameter(name, by_name, default=None, annotation=type_) for name, type_ in _OPTIONS.items()),
    ]
    # typer reads options from the signature and their types from the annotations.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run
