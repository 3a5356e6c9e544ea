"""Checks of what Python code gives `Client` and `AsyncClient`, before anything is requested. PURE.

What the API server checks and explains itself, such as the fields of `spec` and the characters of names, is left to it.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from modeldeploy.durations import parse_duration

#: A length of time: seconds, a timedelta, or what the resource writes, as in "5m".
Duration = float | timedelta | str


def seconds_of(timeout: Duration) -> float:
    """Return a timeout in seconds. Raises `TypeError` and `ValueError` that say what to write."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float | timedelta | str):
        raise TypeError(f"timeout is {timeout!r}: {_TIMEOUTS}")
    if isinstance(timeout, str):
        try:
            timeout = parse_duration(timeout)
        except ValueError as error:
            raise ValueError(f"timeout: {error}; or {_TIMEOUTS}") from None
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
    if not seconds >= 0:  # NaN is none either
        raise ValueError(f"timeout is {timeout!r}, and must be 0 or more: {_TIMEOUTS}")
    return seconds


_TIMEOUTS = "give seconds (300), a timedelta, or a duration such as '5m'"


def name_of(name: str) -> str:
    """Return the name of a ModelDeployment: an empty one would stand for all of the namespace.

    Raises `TypeError` and `ValueError`.
    """
    if not isinstance(name, str):
        raise TypeError(f"name is {name!r}: give the name of a ModelDeployment as a str, as in 'fraud'")
    if not name:
        raise ValueError("name is empty: give the name of a ModelDeployment, as in 'fraud'")
    return name


def spec_of(spec: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return fields of `spec`. Raises `TypeError` and `ValueError`, also for a whole manifest."""
    if spec is None:
        return {}
    if not isinstance(spec, Mapping):
        raise TypeError(
            f"spec is of type {type(spec).__name__}: give fields of spec as a dict, as in {{'replicas': 3}}"
        )
    if {"apiVersion", "kind", "metadata"} & set(spec):
        raise ValueError("spec is a whole manifest: give what it has under 'spec'")
    return dict(spec)


def model_of(spec: Mapping[str, Any], storage_uri: str, *, trusted: bool) -> dict[str, Any]:
    """Return `spec.model` with its address. Raises `TypeError` and `ValueError`, also where both differ."""
    if not isinstance(storage_uri, str):
        kind = type(storage_uri).__name__
        raise TypeError(f"storage_uri is of type {kind}: give a str with a scheme, as in 's3://models/fraud/7'")
    model = spec.get("model") or {}
    if not isinstance(model, Mapping):
        raise TypeError(f"spec['model'] is of type {type(model).__name__}: give a dict, as in {{'format': 'sklearn'}}")
    if model.get("storageUri", storage_uri) != storage_uri:
        raise ValueError(
            f"storage_uri is {storage_uri!r}, and spec['model']['storageUri'] {model['storageUri']!r}: give one of them"
        )
    return {**model, "storageUri": storage_uri, **({"trusted": True} if trusted else {})}
