"""JSON merge patches."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_operator.api.merge_patch import merge_patch
from model_operator.testing import merge

VALUES: Any = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.text("abc", min_size=1, max_size=2), VALUES, max_size=4)


@settings(max_examples=40)
@given(old=BODIES, new=BODIES)
def test_the_patch_turns_one_into_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merge(old, merge_patch(old, new)) == new


@settings(max_examples=40)
@given(body=BODIES)
def test_equal_values_need_no_patch(body: dict[str, Any]) -> None:
    assert merge_patch(body, body) == {}


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        pytest.param({"a": 1}, {}, {"a": None}, id="what is gone is named"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"c": None}}, id="also deep inside"),
        pytest.param({"a": [1]}, {"a": [1, 2]}, {"a": [1, 2]}, id="lists are replaced"),
    ],
)
def test_merge_patch(old: dict[str, Any], new: dict[str, Any], patch: dict[str, Any]) -> None:
    assert merge_patch(old, new) == patch
