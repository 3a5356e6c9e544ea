"""What a sample of the training data says about the features of a model."""

from typing import Any

import pytest

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
