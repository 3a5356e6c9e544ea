"""The generic model server: pulls a model package, checks it, loads it and serves it."""

from functools import cache


@cache
def version() -> str:
    """The version that is installed. Who starts a server pays for the look at it only when somebody asks."""
    from importlib import metadata

    return metadata.version("modeldeploy")
