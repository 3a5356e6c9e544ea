"""The person's tool: `modeldeploy`, also as `kubectl modeldeploy`; and `modeldeploy.Client` for Python."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modeldeploy.async_client import AsyncClient
    from modeldeploy.client import Client, ModelRefused, Prediction, RolloutFailed

__all__ = ["AsyncClient", "Client", "ModelRefused", "Prediction", "RolloutFailed"]


def __getattr__(name: str) -> Any:
    """Import the client when it is asked for: commands start without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; known: {', '.join(__all__)}")
    from modeldeploy import async_client, client

    return getattr(async_client if name == "AsyncClient" else client, name)
