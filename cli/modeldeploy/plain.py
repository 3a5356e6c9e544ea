"""Text of strangers for a terminal: what would move the cursor or change colours is shown instead. PURE.

A pod's last words come from whatever runs in it; used by `session.py` for all that is read, and for errors.
"""

from typing import Any

_KEPT = "\n\t"
_SHOWN = {code: f"^{chr(code ^ 64)}" for code in (*range(32), 127) if chr(code) not in _KEPT}
_SHOWN |= {code: f"\\x{code:02x}" for code in range(128, 160)}


#: Levels of a value that are shown; objects of Kubernetes have a few dozen.
MOST_LEVELS = 100
#: What stands where more was.
TOO_DEEP = "(nested too deeply)"


def plain(value: Any, *, levels: int = MOST_LEVELS) -> Any:
    """Return a JSON value with the control characters of its texts made visible, as in ^[ for escape."""
    if isinstance(value, str):
        return value.translate(_SHOWN)
    if not levels and isinstance(value, dict | list):
        return TOO_DEEP
    if isinstance(value, dict):
        return {name: plain(child, levels=levels - 1) for name, child in value.items()}
    return [plain(item, levels=levels - 1) for item in value] if isinstance(value, list) else value
