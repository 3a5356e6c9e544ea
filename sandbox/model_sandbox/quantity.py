"""Kubernetes quantities (`500m`, `1Gi`, `1e3`) as numbers. The API server and the node compare with them."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d+)?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIXES = {0: "", **{power: name for name, power in _DECIMAL.items()}}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def parse_quantity(text: str | float) -> Decimal:
    """The number that a quantity stands for. Raises ValueError."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{text!r} is no quantity: write a number and a suffix, as in 500m, 2, 1Gi")
    number, suffix = Decimal(match[1]), match[2] or ""
    if suffix in _BINARY:
        return number * Decimal(1024) ** _BINARY[suffix]
    if suffix in _DECIMAL:
        return number * Decimal(10) ** _DECIMAL[suffix]
    return number * Decimal(10) ** int(suffix[1:]) if suffix else number


def format_quantity(text: str | float) -> str:
    """A quantity as Kubernetes writes it back: no fraction, the largest suffix that fits. Raises ValueError."""
    match = _QUANTITY.fullmatch(str(text))
    value = parse_quantity(text)
    if match is not None and (match[2] or "") in _BINARY and abs(value) >= 1024 and value == int(value):
        power = max(power for power in range(1, 7) if value % 1024**power == 0 or power == 1)
        if value % 1024**power == 0:
            return f"{int(value // 1024**power)}{next(name for name, one in _BINARY.items() if one == power)}"
    if value == 0:
        return "0"
    exponent = next((power for power in (18, 15, 12, 9, 6, 3, 0, -3, -6) if value % Decimal(10) ** power == 0), -9)
    number = int((value / Decimal(10) ** exponent).to_integral_value(ROUND_CEILING))
    if match is not None and (match[2] or "")[:1] in ("e", "E") and match[2] != "E" and match[2] not in _BINARY:
        return f"{number}e{exponent}" if exponent else str(number)
    return f"{number}{_SUFFIXES[exponent]}"
