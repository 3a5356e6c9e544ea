"""What several servers find in their requests becomes one report, which changes seldom."""

import pytest

from model_operator.api.inputs import Finding, InputSample
from model_operator.observation.input_quality import merged, refreshed, with_unread
from model_operator.observation.values import InputReport


def found(feature: str, share: float, problem: str = "missing") -> Finding:
    return Finding(feature=feature, problem=problem, share=share, limit=0.05)


def report(*findings: Finding) -> InputReport:
    return InputReport(has_requests=True, findings=findings)


def test_of_several_servers_the_worst_share_of_each_problem_counts_and_outliers_come_last() -> None:
    first = InputSample(requests=10, findings=(found("age", 0.2), found("", 0.9, "outlier")))
    second = InputSample(requests=0, findings=(found("age", 0.4), found("plan", 0.5)))
    assert merged([first, None, second]) == report(found("plan", 0.5), found("age", 0.4), found("", 0.9, "outlier"))


def test_servers_that_do_not_compare_report_nothing() -> None:
    assert merged([None, None]) is None
    assert merged([InputSample()]) == InputReport(has_requests=False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(None, report(), id="the first report"),
        pytest.param(InputReport(), report(), id="the first requests"),
        pytest.param(report(), report(found("age", 0.2)), id="a new problem"),
        pytest.param(report(found("age", 0.2)), report(), id="an end"),
        pytest.param(report(found("age", 0.2)), report(found("plan", 0.2)), id="another feature"),
        pytest.param(report(found("age", 0.2)), report(found("age", 0.6)), id="a share that moved far"),
        pytest.param(report(found("age", 0.04)), report(found("age", 0.06)), id="a share that passed its limit"),
        pytest.param(report(found("age", 0.2)), None, id="a server that compares no longer"),
    ],
)
def test_what_is_new_is_reported(before: InputReport | None, after: InputReport | None) -> None:
    assert refreshed(before, after) == after


def test_a_server_that_does_not_answer_may_still_find_what_it_found() -> None:
    before = report(found("age", 0.6), found("", 0.9, "outlier"))
    assert with_unread(before, report(found("age", 0.3), found("plan", 0.5))) == report(
        found("plan", 0.5), found("age", 0.3), found("", 0.9, "outlier")
    )
    assert with_unread(before, None) == with_unread(None, before) == before


@pytest.mark.parametrize("share", [0.2, 0.1, 0.4])
def test_a_share_that_moved_little_is_no_write(share: float) -> None:
    before = report(found("age", 0.2))
    assert refreshed(before, report(found("age", share))) is before
