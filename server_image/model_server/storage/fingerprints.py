"""Fingerprints of sources, made of what a protocol says about its objects; the modules of the schemes use them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def fingerprint_of(facts: Iterable[object]) -> str:
    """Sixteen hexadecimal digits that stand for the facts: ETags, sizes, times, commits."""
    text = "\n".join(str(fact) for fact in facts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
