"""What routers may look at: their live objects, and how many pods of each side take requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Live route objects by kind, ready pods of both sides, and whether the front Service selects all revisions.

    `missing_kinds` are the kinds that the cluster does not know.
    """

    objects: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    missing_kinds: frozenset[str] = frozenset()
    stable_ready: int = 0
    canary_ready: int = 0
    front_is_wide: bool = False
