"""Text of strangers for a terminal: what would move the cursor or change colours is shown instead. PURE.

A pod's last words come from whatever runs in it; used by `session.py` for all that is read, and for errors.
"""

from typing import Any

_KEPT = "\n\t"
_SHOWN = {code: f"^{chr(code ^ 64)}" for code in (*range(32), 127) if chr(code) not in _KEPT}
_SHOWN |= {code: f"\\x{code:02x}" for code in range(128, 160)}


def plain(value: Any) -> Any:
    """Return a JSON value with the control characters of its texts made visible, as in ^[ for escape."""
    if isinstance(value, str):
        return value.translate(_SHOWN)
    if isinstance(value, dict):
        return {name: plain(child) for name, child in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value
