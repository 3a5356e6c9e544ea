"""What moved a prediction, as bars: the answer of a model's `/explain` for its first row. PURE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modeldeploy.dashboard.view.prediction import NoForm

Answer = Mapping[str, Any]

#: Features that have a bar, and outputs that are drawn, those with the largest values.
_MOST_BARS, _MOST_OUTPUTS = 20, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one feature adds to an output. `begin` and `width` are its bar, of 100 from the left; `error` is its
    standard error where it is an estimate, and `low` to `high` what this means on the same scale."""

    feature: str
    value: float
    begin: float
    width: float
    error: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One output: base value and contributions add up to `value`. `left_out` small ones add `rest` together."""

    label: str
    base: float
    value: float
    contributions: Sequence[Contribution]
    left_out: int
    rest: float

    @property
    def total(self) -> float:
        """The sum of all contributions."""
        return sum(one.value for one in self.contributions) + self.rest


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The first row of an answer, its largest output first. `rows` are those that the answer has."""

    method: str
    scale: str
    is_estimate: bool
    outputs: Sequence[Output]
    left_out: int
    rows: int


def explained_of(answer: Answer) -> Explained:
    """Return what to draw. Raises `NoForm` for an answer of another shape."""
    try:
        return _read(answer)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise NoForm("its explanation has another shape than this version of modeldeploy reads") from error


def _read(answer: Answer) -> Explained:
    rows = answer["explanations"]
    row: Answer = rows[0]
    bases, values = _list(row["base_value"]), _list(row["output"])
    contributions = {str(name): _list(one) for name, one in row["contributions"].items()}
    errors = {str(name): _list(one) for name, one in (row.get("standard_errors") or {}).items()}
    classes = [str(one) for one in answer.get("classes") or ()]
    order = sorted(range(len(values)), key=lambda place: -values[place])
    outputs = [
        _output(
            classes[place] if place < len(classes) else "",
            bases[place],
            values[place],
            {name: found[place] for name, found in contributions.items()},
            {name: found[place] for name, found in errors.items()},
        )
        for place in order[:_MOST_OUTPUTS]
    ]
    return Explained(
        method=str(answer.get("method", "")),
        scale=str(answer.get("scale", "output")),
        is_estimate=bool(errors),
        outputs=outputs,
        left_out=len(order) - len(outputs),
        rows=len(rows),
    )


def _list(value: Any) -> list[float]:
    """Return the numbers of each output; a model of one output answers with a number."""
    return [float(one) for one in value] if isinstance(value, list) else [float(value)]


def _output(
    label: str, base: float, value: float, contributions: Mapping[str, float], errors: Mapping[str, float]
) -> Output:
    ordered = sorted(contributions.items(), key=lambda pair: (-abs(pair[1]), pair[0]))
    shown, rest = ordered[:_MOST_BARS], ordered[_MOST_BARS:]
    most = max((abs(one) + errors.get(name, 0.0) for name, one in shown), default=0.0) or 1.0
    return Output(
        label=label,
        base=base,
        value=value,
        contributions=[_contribution(name, one, errors.get(name), most) for name, one in shown],
        left_out=len(rest),
        rest=sum(one for _, one in rest),
    )


def _contribution(feature: str, value: float, error: float | None, most: float) -> Contribution:
    def place(number: float) -> float:
        return 50 + 50 * number / most

    spread = error or 0.0
    return Contribution(
        feature=feature,
        value=value,
        begin=min(place(value), 50.0),
        width=abs(place(value) - 50),
        error=error,
        low=place(value - spread),
        high=place(value + spread),
    )
