"""Which Kubernetes is supported, in one sentence."""

import pytest

from model_operator.versions import support_problem


@pytest.mark.parametrize("version", ["v1.30.0", "v1.36.2", "v1.30.3+k3s1", "v1.31.1-eks-7f9249a", "v2.0.0"])
def test_supported(version: str) -> None:
    assert support_problem(version) == ""


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        pytest.param("v1.29.9", "runs Kubernetes v1.29.9, which is too old: 1.30 is the oldest", id="an old one"),
        pytest.param("main", "reports the version 'main'", id="not a version"),
    ],
)
def test_not_supported(version: str, problem: str) -> None:
    assert problem in support_problem(version)
