"""The kopf bindings: login, liveness, signals and a clean end.

ModelDeployments are watched by the engine's own reflectors, like everything that belongs to them
(docs/decisions/0005): kopf's handling of an object costs a millisecond at every start, and its deletions can be lost.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import kopf

from model_operator.engine.engine import Engine

#: A watch that was silent for so long is dead; bookmarks come each minute.
LONGEST_SILENCE = 150.0
Login = Callable[[], kopf.ConnectionInfo]


def login() -> kopf.ConnectionInfo:
    """Return how to reach the API server: by KUBECONFIG if it is set, else by the pod's ServiceAccount.

    Raises:
        kopf.LoginError: there is neither, or the kubeconfig cannot be read.
    """
    settings = kopf.OperatorSettings()
    named = os.environ.get("KUBECONFIG", "")
    try:
        found = None if named else kopf.login_with_service_account(settings=settings)
        found = found or kopf.login_with_kubeconfig(settings=settings)
    except Exception as error:  # whatever kopf stumbles over in a file that it takes for a kubeconfig
        why = " ".join(str(error).split()) or type(error).__name__
        raise kopf.LoginError(f"the kubeconfig cannot be read (KUBECONFIG={named}): {why}") from error
    if found is None:
        raise kopf.LoginError("no way to the API server: set KUBECONFIG, or run in a pod with a ServiceAccount")
    return found


def configure(settings: kopf.OperatorSettings) -> None:
    """Switch off what kopf would write and look for: the engine does both."""
    settings.posting.enabled = False
    settings.scanning.disabled = True


def bind(registry: kopf.OperatorRegistry, engine: Engine, login: Login, stop: asyncio.Event) -> None:
    """Register the handlers of one engine; `stop` is set as soon as kopf is told to end.

    kopf waits five seconds for tasks that it did not start, so ours have to end by themselves.
    """

    @kopf.on.login(registry=registry)
    def log_in(**_: Any) -> kopf.ConnectionInfo:
        return login()

    @kopf.on.probe(id="engine", registry=registry)
    async def alive(**_: Any) -> Any:
        health = engine.health(LONGEST_SILENCE)
        if health["silent"]:
            raise kopf.PermanentError(f"watches were silent for too long: {health['silent']}")
        return health

    @kopf.on.cleanup(registry=registry)
    async def end(**_: Any) -> None:
        stop.set()
