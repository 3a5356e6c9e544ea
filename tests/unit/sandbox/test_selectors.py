"""Label and field selectors."""

import pytest

from model_sandbox.apiserver.errors import ApiError
from model_sandbox.apiserver.selectors import match_selector, parse_fields, parse_labels, selector_text


@pytest.mark.parametrize(
    ("text", "labels", "selected"),
    [
        pytest.param("", {}, True, id="an empty selector selects everything"),
        pytest.param("a=b", {"a": "b"}, True, id="equality"),
        pytest.param("a==b", {"a": "c"}, False, id="two equal signs mean the same"),
        pytest.param("a!=b", {}, True, id="an absent label differs from every value"),
        pytest.param("a", {"a": ""}, True, id="a key alone asks for its presence"),
        pytest.param("!a", {"a": ""}, False, id="a bang asks for its absence"),
        pytest.param("a in (b, c)", {"a": "c"}, True, id="in a set"),
        pytest.param("a in (b)", {}, False, id="an absent label is in no set"),
        pytest.param("a notin (b)", {}, True, id="an absent label is outside of every set"),
        pytest.param("n>4,n<6", {"n": "5"}, True, id="numbers compare"),
        pytest.param("n>4", {"n": "x"}, False, id="what is no number never compares"),
        pytest.param("x.test/a=b,c", {"x.test/a": "b"}, False, id="all requirements must hold"),
    ],
)
def test_labels(text: str, labels: dict[str, str], selected: bool) -> None:
    assert parse_labels(text)(labels) is selected


@pytest.mark.parametrize("text", ["a===b", "a in b", "a in (b", "=", "a b", "-a", "n>x", "a=b!"])
def test_a_selector_that_cannot_be_read_is_a_bad_request(text: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse_labels(text)
    assert refused.value.code == 400


def test_fields_may_be_equal_or_differ() -> None:
    test = parse_fields("spec.nodeName=n1,status.phase!=Failed", ("spec.nodeName", "status.phase"))
    assert test({"spec": {"nodeName": "n1"}, "status": {"phase": "Running"}})
    assert not test({"spec": {"nodeName": "n1"}, "status": {"phase": "Failed"}})
    assert not test({"spec": {}})


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ApiError, match=r"metadata\.name"):
        parse_fields("spec.replicas=1", ())


def test_a_selector_object_without_requirements_selects_everything_and_none_selects_nothing() -> None:
    assert match_selector({}, {"a": "b"})
    assert not match_selector(None, {"a": "b"})


def test_a_selector_object_reads_as_its_parameter() -> None:
    selector = {"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]}
    assert selector_text(selector) == "a=1,b=2,c"
    assert match_selector(selector, {"a": "1", "b": "2", "c": ""})
