"""How many pods each revision gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_operator.policy.rollout.replica_counts import replica_ratio, resolve


@pytest.mark.parametrize(
    ("total", "percent", "surge", "sizes"),
    [
        pytest.param(4, 0, 1, (0, 4), id="nothing for the canary at 0 %"),
        pytest.param(4, 100, 1, (4, 0), id="everything for the canary at 100 %"),
        pytest.param(4, 5, 1, (1, 4), id="a surge pod brings one pod nearer to 5 %"),
        pytest.param(4, 25, 1, (1, 3), id="a share that fits exactly needs no surge"),
        pytest.param(10, 50, 1, (5, 5), id="half and half"),
        pytest.param(1, 50, 1, (1, 1), id="one replica splits with a surge pod"),
        pytest.param(20, 1, 0, (1, 19), id="the smallest share is one pod"),
        pytest.param(3, 99, 0, (2, 1), id="stable keeps a pod below 100 %"),
    ],
)
def test_replica_ratio(total: int, percent: int, surge: int, sizes: tuple[int, int]) -> None:
    assert replica_ratio(total, percent, surge) == sizes


@given(total=st.integers(2, 60), percent=st.integers(1, 99), surge=st.integers(0, 10))
def test_no_other_pair_of_sizes_comes_nearer(total: int, percent: int, surge: int) -> None:
    canary, stable = replica_ratio(total, percent, surge)
    assert canary >= 1
    assert stable >= 1
    assert total <= canary + stable <= total + surge
    reached = abs(canary / (canary + stable) - percent / 100)
    for whole in range(total, total + surge + 1):
        for other in range(1, whole):
            assert reached <= abs(other / whole - percent / 100) + 1e-12


@pytest.mark.parametrize(
    ("bound", "total", "pods"),
    [
        pytest.param(2, 10, 2, id="a number stays"),
        pytest.param("25%", 10, 3, id="a percentage is rounded up"),
        pytest.param("0%", 10, 0, id="nothing of ten is nothing"),
    ],
)
def test_resolve(bound: int | str, total: int, pods: int) -> None:
    assert resolve(bound, total) == pods
