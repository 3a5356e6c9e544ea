"""A storage URI as it may be shown: logs, errors, `/readyz` and metrics are read by more people than its owner."""

from __future__ import annotations

import re


def redacted(uri: str) -> str:
    """Without what may be secret: user, password, query (the signature of a signed URL) and fragment."""
    return re.sub(r"//[^/@]*@", "//", uri.split("?")[0].split("#")[0])
