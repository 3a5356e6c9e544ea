"""Guards: values with bounds, from Prometheus or a web hook, and what is remembered of them. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_operator.api.analysis import Guard, Source
from model_operator.api.json import Body
from model_operator.api.values import replace
from model_operator.errors import ProviderError
from model_operator.observation.values import Outcome
from model_operator.policy.analysis.provider_state import ProviderBacked, outage_body, outage_of

_TEMPLATE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(ProviderBacked):
    """What one guard has been told: its last value, intervals with one, and those out of bounds."""

    value: float | None = None
    looks: int = 0
    failures: int = 0


def measure(guard: Guard, known: Measured, value: float | None) -> Measured:
    """Return the memory with one more answer; None is an answer without a number: then nothing is known of now.

    Raises:
        InvalidSpec: the guard's condition is not understood.
    """
    healthy = known.answered()
    if value is None:
        return replace(healthy, value=None)
    return replace(healthy, value=value, looks=known.looks + 1, failures=known.failures + guard.is_bad(value))


def judge_guard(guard: Guard, known: Measured) -> Outcome:
    """Return the verdict: Fail above the limit, Pass while the last answer is a value within bounds."""
    if known.failures > guard.limit:
        return Outcome.FAIL
    if known.problem or known.value is None or guard.is_bad(known.value):
        return Outcome.UNDECIDED
    return Outcome.PASS


def render_templates(source: Source, variables: Mapping[str, str]) -> Source:
    """Return the source with its templates replaced.

    Raises:
        ProviderError: a template is not known.
    """

    def fill(text: str) -> str:
        unknown = {name for name in _TEMPLATE.findall(text) if name not in variables}
        if unknown:
            known = ", ".join("{{" + name + "}}" for name in sorted(variables))
            raise ProviderError(f"{{{{{min(unknown)}}}}} is not known; known are {known}")
        return _TEMPLATE.sub(lambda match: variables[match[1]], text)

    return replace(source, url=fill(source.url), query=None if source.query is None else fill(source.query))


def tell_guard(name: str, guard: Guard, known: Measured) -> str:
    """Return what is known of one guard, in one line."""
    if known.problem:
        return f"{name}: {known.problem}"
    if known.value is None:
        return f"{name}: no value{'' if known.looks else ' yet'}"
    return (
        f"{name}: {known.value:g}, out of bounds in {known.failures} of {known.looks} intervals ({guard.limit} allowed)"
    )


def guard_body(known: Measured) -> dict[str, Any]:
    """Return what status shows and remembers of one guard."""
    body: dict[str, Any] = {"looks": known.looks, "failures": known.failures}
    if known.value is not None:
        body["value"] = known.value
    return body | outage_body(known)


def measured_of(entry: Body) -> Measured:
    """Read back what `guard_body` wrote."""
    return Measured(
        value=entry.get("value"),
        looks=entry["looks"],
        failures=entry["failures"],
        **outage_of(entry),
    )
