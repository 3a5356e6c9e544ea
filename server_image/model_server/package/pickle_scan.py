"""What a pickle would call when it is loaded, for the refusal of one that nobody vouched for; `trust.py` asks.

It is read opcode by opcode by picklescan and never run. Finding nothing proves nothing (compressed files are
not looked into), so the scan adds to a refusal and never allows anything.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

SHOWN = 5


def dangerous_calls(artifacts: Iterable[Path]) -> list[str]:
    """Names like `os.system` that a model has no use for; [] where picklescan is absent."""
    if find_spec("picklescan") is None:
        return []
    from picklescan.scanner import SafetyLevel, scan_file_path

    # It calls the plain arrays between joblib's opcodes an error, in a log where nobody can do anything about it.
    logging.getLogger("picklescan").setLevel(logging.CRITICAL)
    found = {
        f"{one.module}.{one.name}"
        for path in artifacts
        for one in scan_file_path(str(path)).globals
        if one.safety is SafetyLevel.Dangerous
    }
    return sorted(found)[:SHOWN]
