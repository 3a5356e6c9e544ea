"""Kubernetes quantities (`500m`, `1Gi`, `2e3`) and the fields of an object that hold them.

The only place that knows both: revisions (`api.identity`) and the comparison with live objects
(`manifests.drift`) treat two spellings of one number as equal.
Format: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from collections.abc import Mapping
from decimal import Decimal, DecimalException
from typing import Any

_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}

#: Quantities of Kubernetes go from 1n to some E. Digits beyond them are written out, and an exponent has room for many.
_MOST_DIGITS = 30

#: Maps whose values are quantities.
_MAPS = frozenset({"requests", "limits", "overhead"})
#: Fields that hold one quantity: `emptyDir.sizeLimit`, `resourceFieldRef.divisor`, the targets of an autoscaler.
_LEAVES = frozenset({"sizeLimit", "divisor", "averageValue"})
_LEAVES_OF = {
    "target": frozenset({"value"}),
    "scaleUp": frozenset({"tolerance"}),
    "scaleDown": frozenset({"tolerance"}),
}


def parse_quantity(text: str) -> Decimal:
    """Return the number that a quantity stands for.

    Raises:
        ValueError: the text is not a quantity.
    """
    number, scale = text, Decimal(1)
    if text[-2:] in _BINARY:
        number, scale = text[:-2], Decimal(1024) ** _BINARY[text[-2:]]
    elif text[-1:] in _DECIMAL and text[-1:]:
        number, scale = text[:-1], Decimal(10) ** _DECIMAL[text[-1:]]
    try:
        value = Decimal(number) * scale
    except DecimalException as error:  # also of an exponent beyond measure
        raise ValueError(f"{text!r} is not a quantity such as 500m or 1Gi") from error
    if not value.is_finite():
        raise ValueError(f"{text!r} is not a finite number")
    if value and not -_MOST_DIGITS < value.adjusted() < _MOST_DIGITS:
        raise ValueError(f"{text!r} is larger or smaller than any quantity of Kubernetes")
    return value


def canonical_quantity(value: Any) -> Any:
    """Return one spelling for each number: the shortest with a suffix; a value that is not a quantity as it is."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    try:
        number = parse_quantity(str(value))
    except ValueError:
        return value
    return min(_spellings(number), key=len)


def _spellings(number: Decimal) -> list[str]:
    if number == 0:
        return ["0"]
    decimal = next(
        (unit for unit, power in reversed(_DECIMAL.items()) if _is_whole(number.scaleb(-power))),
        "n",  # Kubernetes keeps nothing finer
    )
    spellings = [f"{number.scaleb(-_DECIMAL[decimal]).normalize():f}{decimal}"]
    binary = next((unit for unit, power in reversed(_BINARY.items()) if _is_whole(number / 1024**power)), "")
    if binary:
        spellings.append(f"{(number / 1024 ** _BINARY[binary]).normalize():f}{binary}")
    return spellings


def _is_whole(number: Decimal) -> bool:
    return number == number.to_integral_value()


def is_quantity(parent: str, field: str) -> bool:
    """Return whether the field `field` of an object in the field `parent` holds a quantity."""
    return parent in _MAPS or field in _LEAVES or field in _LEAVES_OF.get(parent, ())


def with_canonical_quantities(value: Any, field: str = "") -> Any:
    """Return a JSON value in which every quantity has its canonical spelling.

    Args:
        field: name of the field that holds the value.
    """
    if isinstance(value, Mapping):
        return {
            key: canonical_quantity(inner) if is_quantity(field, key) else with_canonical_quantities(inner, key)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [with_canonical_quantities(item, field) for item in value]
    return value
