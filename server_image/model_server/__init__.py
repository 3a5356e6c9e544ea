"""The generic model server: pulls a model package, checks it, loads it and serves it."""

from functools import cache


@cache
def version() -> str:
    """The installed version. It is looked up when it is first needed: a start does not wait for it."""
    from importlib import metadata

    return metadata.version("modeldeploy")
