"""The OpenAPI schema of a ModelDeployment as this version knows it, for the defaults in it."""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def schema() -> dict[str, Any]:
    """Return the schema; reading it takes a moment the first time."""
    text = (files("modeldeploy") / "data" / "modeldeployments.yaml").read_text()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, where it was built
    versions = yaml.load(text, Loader=loader)["spec"]["versions"]  # noqa: S506 - both loaders are safe ones
    found: dict[str, Any] = versions[0]["schema"]["openAPIV3Schema"]
    return found
