"""What `modeldeploy lint` finds, and on which line."""

from typing import Any

import pytest

from modeldeploy.lint import ManifestError, check_object, read_definition, read_documents

DEFINITION = read_definition()


def found(spec: str, name: str = "fraud") -> list[tuple[int, str, str]]:
    """Line, field and message of each problem; the spec's first line is line 5."""
    head = f"apiVersion: modeldeploy.dev/v1alpha1\nkind: ModelDeployment\nmetadata:\n  name: {name}\n"
    (document,) = read_documents(head + spec)
    problems = check_object(document.body, DEFINITION)
    return [(document.line_of(one.path), one.field, one.message) for one in problems]


GOOD = """\
spec:
  model:
    storageUri: s3://models/fraud/7
"""


@pytest.mark.parametrize(
    ("spec", "line", "field", "said"),
    [
        pytest.param(
            "spec:\n  model:\n    storageUri: ftp://x\n",
            7,
            "spec.model.storageUri",
            "must begin with one of s3://",
            id="a rule, on the line of its field",
        ),
        pytest.param("spec:\n  model: {}\n", 6, "spec.model.storageUri", "is required", id="a missing field"),
        pytest.param(GOOD + "  replica: 2\n", 8, "spec.replica", "did you mean replicas", id="a typing error"),
        pytest.param(GOOD + "  xyzzy: 2\n", 8, "spec.xyzzy", "known are model, replicas", id="an unknown field"),
        pytest.param(GOOD + "  replicas: two\n", 8, "spec.replicas", "'two' is no integer", id="a wrong type"),
        pytest.param(GOOD + "  replicas: -1\n", 8, "spec.replicas", "minimum of 0", id="a number out of range"),
        pytest.param(
            GOOD + "  server: {logLevel: loud}\n",
            8,
            "spec.server.logLevel",
            "known are debug, info",
            id="a word that is not on the list",
        ),
        pytest.param(
            GOOD + "  strategy:\n    canary:\n      steps:\n      - pause: {}\n      - pause: {duration: ages}\n",
            12,
            "spec.strategy.canary.steps[1].pause.duration",
            "as in 90s or 1h30m",
            id="a duration in a list",
        ),
        pytest.param(
            GOOD + "  autoscaling: {minReplicas: 5, maxReplicas: 3}\n",
            8,
            "spec.autoscaling",
            "must not be above",
            id="two fields that contradict each other",
        ),
        pytest.param(
            GOOD + "  strategy: {canary: {}, blueGreen: {}}\n",
            8,
            "spec.strategy",
            "exactly one of",
            id="two strategies",
        ),
    ],
)
def test_a_mistake_is_found(spec: str, line: int, field: str, said: str) -> None:
    ((found_line, found_field, message),) = found(spec)
    assert (found_line, found_field) == (line, field)
    assert said in message


def test_a_good_manifest_has_no_problem() -> None:
    assert found(GOOD) == []


def test_rules_see_defaults_as_the_api_server_does() -> None:
    # minReplicas is 1 by default; without the default its rule could not be read at all.
    assert found(GOOD + "  autoscaling: {maxReplicas: 3}\n") == []


def test_every_problem_is_told_at_once() -> None:
    assert len(found(GOOD + "  replicas: two\n  paused: maybe\n")) == 2


def test_a_rule_about_the_name_is_held() -> None:
    ((_, _, message),) = found(GOOD, name="x" * 49)
    assert "at most 48 characters" in message


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\t- x"])
def test_what_is_no_yaml_is_told_with_the_line(text: str) -> None:
    with pytest.raises(ManifestError, match="line 1"):
        list(read_documents(text))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        pytest.param((), 1, id="the document"),
        pytest.param(("b", 1, "c"), 4, id="a field in a list"),
        pytest.param(("b", 7), 2, id="the nearest that is there"),
    ],
)
def test_the_line_of_a_field(path: Any, line: int) -> None:
    (document,) = read_documents("a: 1\nb:\n- c: 1\n- c: 2\n")
    assert document.line_of(path) == line
