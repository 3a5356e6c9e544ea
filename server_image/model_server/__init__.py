"""The generic model server: pulls a model package, checks it, loads it and serves it."""

from importlib import metadata

__version__ = metadata.version("modeldeploy")
