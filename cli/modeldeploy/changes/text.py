"""The differences between an object and the one that would be stored, as text. PURE."""

import difflib
from collections.abc import Mapping
from typing import Any

import yaml

from modeldeploy.rollout import GROUP

Body = Mapping[str, Any]


def unified(live: Body | None, after: Body, shown: str) -> list[str]:
    """Return the lines of a unified diff of what users write: `spec`, and requests in annotations."""
    before, now = _written(live or {}), _written(after)
    return list(difflib.unified_diff(before, now, f"live/{shown}", f"merged/{shown}", lineterm=""))


def _written(body: Body) -> list[str]:
    annotations = (body.get("metadata") or {}).get("annotations") or {}
    ours = {name: value for name, value in annotations.items() if name.startswith(f"{GROUP}/")}
    document: dict[str, Any] = {"metadata": {"annotations": ours}} if ours else {}
    document |= {"spec": body["spec"]} if "spec" in body else {}
    # Control characters are escaped here, so that nobody's value steers a terminal.
    return yaml.safe_dump(document, width=120).splitlines() if document else []
