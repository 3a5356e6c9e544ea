"""From a sample of the training data to the features and the reference profile of model.yaml. Pure."""

import math
import statistics
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from modeldeploy.package.correlation import common_correlation

BINS = 10
# Text with more values than this is not compared value by value.
MOST_CATEGORIES = 50
MISSING = ("", "na", "n/a", "nan", "null", "none")


def describe(
    names: Sequence[str], columns: Mapping[str, Sequence[str]], *, ranges: bool, dropped: Collection[str] = ()
) -> dict[str, Any]:
    """`input_features`, `reference_profile` and `reference_correlation` for the columns in `names`, as cells of text.

    With `ranges` the lowest and highest value of a number become its rule: values outside are refused. Of a column that
    the model has `dropped` any value may come, or none, and nothing is compared.
    """
    features, profile = [], {}
    for name in names:
        if name in dropped:
            features.append(_describe_dropped(name, columns.get(name, ())))
            continue
        feature, reference = _describe_one(name, columns[name], ranges=ranges)
        features.append(feature)
        if reference:
            profile[name] = reference
    numbers = [_cells_as_numbers(columns[name]) for name in names if "edges" in profile.get(name, {})]
    correlation = common_correlation(numbers)
    return {
        "input_features": features,
        **({"reference_profile": profile} if profile else {}),
        **({} if correlation is None else {"reference_correlation": correlation}),
    }


def _describe_dropped(name: str, cells: Sequence[str]) -> dict[str, Any]:
    is_told = any(cell.strip().lower() not in MISSING for cell in cells)
    # Without one the whole package would have no example.
    example = _describe_one(name, cells, ranges=False)[0]["example"] if is_told else ""
    return {"name": name, "dtype": "any", "nullable": True, "example": example, "description": "Not used by the model"}


def _describe_one(name: str, cells: Sequence[str], *, ranges: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    present = [cell for cell in (cell.strip() for cell in cells) if cell.lower() not in MISSING]
    missing = len(present) < len(cells)
    numbers = _numbers(present)
    reference: dict[str, Any] = {}
    example: object
    if not missing and {cell.lower() for cell in present} <= {"true", "false"}:
        feature: dict[str, Any] = {"name": name, "dtype": "bool"}
        example = present[0].lower() == "true"
    elif numbers is None:
        feature = {"name": name, "dtype": "string"}
        counts = dict(sorted(Counter(present).items()))
        reference = {"categories": counts} if len(counts) <= MOST_CATEGORIES else {}
        example = present[0]
    else:
        # A whole number cannot be null, so a column with holes is one of floats.
        whole = (
            not missing and all(number.is_integer() for number in numbers) and not any("." in one for one in present)
        )
        feature = {"name": name, "dtype": "int64" if whole else "float64"}
        cast = int if whole else float
        if ranges:
            feature["range"] = [cast(min(numbers)), cast(max(numbers))]
        reference = histogram(numbers)
        example = cast(numbers[0])
    if missing:
        feature["nullable"] = True
    if reference:
        reference["missing"] = len(cells) - len(present)
    return feature | {"example": example}, reference


def _cells_as_numbers(cells: Sequence[str]) -> list[float | None]:
    return [None if cell.strip().lower() in MISSING else float(cell) for cell in cells]


def _numbers(cells: Sequence[str]) -> list[float] | None:
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        return None
    return numbers if numbers and all(math.isfinite(number) for number in numbers) else None


def histogram(numbers: Sequence[float]) -> dict[str, Any]:
    """Edges at the deciles and the counts between them; nothing for a column of one or two values.

    A value on an inner edge belongs to the bin above it, as the server counts.
    """
    if len(set(numbers)) < 3:
        return {}
    low, high = min(numbers), max(numbers)
    # Twelve digits: a person reads 2.01, and not 2.0100000000000002.
    deciles = (float(f"{one:.12g}") for one in statistics.quantiles(numbers, n=BINS, method="inclusive"))
    edges = sorted({low, *(one for one in deciles if low < one < high), high})
    counts = Counter(bisect_right(edges[1:-1], number) for number in numbers)
    return {"edges": edges, "counts": [counts[index] for index in range(len(edges) - 1)]}
