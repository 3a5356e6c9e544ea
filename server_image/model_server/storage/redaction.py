"""A storage URI as it may be shown: logs, errors, `/readyz` and metrics are read by more people than its owner."""

from __future__ import annotations

import re


def redacted(uri: str) -> str:
    """Without what may be secret: user, password, a signature; and without a web address' query and fragment."""
    if uri.startswith("models:"):
        # An alias, and no user, is behind a version's name.
        return uri
    if uri.startswith(("https://", "http://")):
        uri = uri.split("?")[0].split("#")[0]
    # Elsewhere a question mark is part of a name, unless somebody took it for the begin of a query.
    uri = re.sub(r"\?.*(sig|signature|token|secret|password|credential)=.*", "", uri, flags=re.IGNORECASE)
    return re.sub(r"^([a-z0-9+.-]+:)?//[^/@]*@", r"\1//", uri)
