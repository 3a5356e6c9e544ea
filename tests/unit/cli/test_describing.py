"""What a sample of the training data says about the features of a model."""

import math
import random
from typing import Any

import pytest

from modeldeploy.package.correlation import common_correlation
from modeldeploy.package.describing import describe, histogram


@pytest.mark.parametrize(
    ("cells", "ranges", "feature"),
    [
        pytest.param(["1", "2"], False, {"dtype": "int64", "example": 1}, id="whole numbers"),
        pytest.param(["1.0", "2.0"], False, {"dtype": "float64", "example": 1.0}, id="a point makes it a float"),
        pytest.param(
            ["3", ""], False, {"dtype": "float64", "nullable": True, "example": 3.0}, id="a hole makes it a float"
        ),
        pytest.param(["", "b"], False, {"dtype": "string", "nullable": True, "example": "b"}, id="text with a hole"),
        pytest.param(["1", "a"], False, {"dtype": "string", "example": "1"}, id="one word makes it text"),
        pytest.param(["True", "false"], False, {"dtype": "bool", "example": True}, id="truth"),
        pytest.param(["1", "inf"], False, {"dtype": "string", "example": "1"}, id="infinity is no number"),
        pytest.param(["5", "2"], True, {"dtype": "int64", "range": [2, 5], "example": 5}, id="a range on request"),
    ],
)
def test_a_feature(cells: list[str], ranges: bool, feature: dict[str, Any]) -> None:
    assert describe(["a"], {"a": cells}, ranges=ranges)["input_features"] == [{"name": "a"} | feature]


def test_text_is_counted_by_value() -> None:
    described = describe(["plan"], {"plan": ["free", "paid", "free"]}, ranges=False)
    assert described["reference_profile"] == {"plan": {"categories": {"free": 2, "paid": 1}, "missing": 0}}


def test_a_column_of_one_value_has_no_profile() -> None:
    assert "reference_profile" not in describe(["a"], {"a": ["1", "1", "1"]}, ranges=False)


@pytest.mark.parametrize(
    ("numbers", "edges", "counts"),
    [
        pytest.param(list(range(11)), list(range(11)), [1] * 9 + [2], id="tenths"),
        pytest.param([1, 1, 1, 1, 2, 3], [1, 1.5, 2, 2.5, 3], [4, 0, 1, 1], id="equal edges become one"),
    ],
)
def test_a_histogram(numbers: list[float], edges: list[float], counts: list[int]) -> None:
    assert histogram(numbers) == {"edges": edges, "counts": counts}


def test_missing_values_are_counted_beside_those_that_are_there() -> None:
    profile = describe(["a"], {"a": ["1", "", "2", "nan", "3"]}, ranges=False)["reference_profile"]
    assert profile["a"]["missing"] == 2
    assert sum(profile["a"]["counts"]) == 3


def test_the_correlation_does_not_depend_on_units() -> None:
    chance = random.Random(1)
    causes = [chance.gauss(0, 1) for _ in range(500)]
    first, second = ([cause + chance.gauss(0, 1) for cause in causes] for _ in range(2))
    found = common_correlation([first, second])
    assert found == pytest.approx(0.5, abs=0.1)
    assert common_correlation([first, [math.exp(number) for number in second]]) == found


@pytest.mark.parametrize(
    ("columns", "correlation"),
    [
        pytest.param([list(range(60))], None, id="one column"),
        pytest.param([list(range(20))] * 2, None, id="few rows"),
        pytest.param([list(range(60)), [1.0] * 60], None, id="a column of one value"),
        pytest.param([list(range(60))] * 2, 0.99, id="the same twice"),
        pytest.param([list(range(60)), list(range(60, 0, -1))], 0.0, id="opposites are never large together"),
        pytest.param([[*range(58), None, None]] * 2, 0.99, id="missing values"),
        pytest.param([list(range(60)), [None] * 60], None, id="a column of which no row is left"),
        pytest.param([[number * 1e306 for number in range(-60, 60)]] * 2, 0.99, id="enormous numbers"),
    ],
)
def test_a_correlation(columns: list[list[float | None]], correlation: float | None) -> None:
    assert common_correlation(columns) == correlation
