"""The sequential evidence of drift: its promise over seeded streams, its algebra against SciPy, and its windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import dirichlet_multinomial

from model_server.domain.features import Feature
from model_server.monitoring.drift import Drift, learn
from model_server.monitoring.drift_windows import LENGTHS, DriftWindows
from model_server.monitoring.evidence import ALPHA, _log_gamma, _log_likelihoods, lifetime_evidence, log_evidence
from model_server.shared_values import SharedValues
from model_server.telemetry import Telemetry

STREAMS = 1_000
LOOKS, ROWS = 100, 50
SHAPES = {
    "normal": lambda rng, rows: rng.normal(size=rows),
    "skewed": lambda rng, rows: rng.lognormal(sigma=1.5, size=rows),
    "few whole numbers": lambda rng, rows: rng.poisson(1.0, rows).astype(float),
}


def looks_at(bins, values):
    """Counts by bin at each look, shape (looks, bins)."""
    return np.cumsum([bins.count(part) for part in values.reshape(LOOKS, ROWS)], axis=0)


@pytest.mark.parametrize("reference", [pytest.param(rows, id=f"{rows} rows of reference") for rows in (200, 2_000)])
@pytest.mark.parametrize("draw", [pytest.param(draw, id=name) for name, draw in SHAPES.items()])
def test_of_a_thousand_streams_without_drift_at_most_alpha_ever_reach_the_evidence(draw, reference):
    rng = np.random.default_rng(17)
    alarms = 0
    for _ in range(STREAMS):
        bins = learn(draw(rng, reference))
        peak = log_evidence(bins.counts, looks_at(bins, draw(rng, LOOKS * ROWS))).max()
        alarms += peak >= math.log(1 / ALPHA)
    assert alarms <= ALPHA * STREAMS


def test_categories_that_the_reference_never_met_are_no_false_alarm_and_soon_evidence():
    rng = np.random.default_rng(5)
    shares, rows = np.array([0.6, 0.3, 0.0995, 0.0005]), 500
    alarms = 0
    for _ in range(STREAMS):
        reference = rng.multinomial(rows, shares)
        stream = np.cumsum(rng.multinomial(ROWS, shares, size=LOOKS), axis=0)
        alarms += log_evidence(reference, stream).max() >= math.log(1 / ALPHA)
    assert alarms <= ALPHA * STREAMS
    assert log_evidence([600, 300, 100, 0], [[114, 57, 19, 10]])[0] > math.log(1_000)


@pytest.mark.parametrize("shift", [0.5, 1.0])
def test_a_shift_becomes_evidence_within_five_hundred_rows(shift):
    rng = np.random.default_rng(11)
    for _ in range(50):
        bins = learn(rng.normal(size=2_000))
        assert log_evidence(bins.counts, [bins.count(rng.normal(shift, size=500))])[0] > math.log(1 / ALPHA)


def test_no_rows_are_no_evidence():
    assert log_evidence([5, 5], np.zeros((2, 2))).tolist() == pytest.approx([0, 0], abs=1e-8)


def test_likelihoods_are_scipys():
    parameters, counts = np.array([[0.5, 3.0, 20.5]]), np.array([[3.0, 0.0, 7.0]])
    orders = gammaln(11) - gammaln(counts[0] + 1).sum()
    expected = dirichlet_multinomial.logpmf(counts[0].astype(int), parameters[0], 10) - orders
    assert _log_likelihoods(parameters, counts)[0, 0] == pytest.approx(expected)
    values = np.array([1e-5, 0.1, 0.5, 1.0, 7.3, 50.0, 1e6])
    assert _log_gamma(values) == pytest.approx(gammaln(values), abs=1e-8)


def test_what_all_starts_may_spend_is_alpha():
    spent = sum(1 / (lifetime_evidence(0, tests=3, number=number) ** -1) for number in range(1, 100_000))
    assert 3 * spent == pytest.approx(1, abs=1e-4)
    assert math.isfinite(lifetime_evidence(1e9, tests=1, number=1)), "overwhelming evidence is still a number"


def test_windows_start_anew_by_their_rows_alone_and_one_of_each_length_is_at_least_half_full():
    windows = DriftWindows(SharedValues())
    for update in range(200):
        windows.begin(100)
        windows.add(0, np.array([60, 40]))
        rows = windows.counts(0, 2).sum(axis=1)
        assert (rows <= LENGTHS).all()
        if update >= 100:
            assert max(rows[:2]) >= LENGTHS[0] / 2
            assert max(rows[2:]) >= LENGTHS[2] / 2
    assert windows.starts()[0] > windows.starts()[2] > 1


def test_workers_add_up():
    memory = bytearray(SharedValues.size(2))
    first, second = (DriftWindows(SharedValues(memory, worker)) for worker in range(2))
    for windows, counts in ((first, [3, 4]), (second, [5, 6])):
        windows.begin(9)
        windows.add(2, np.array(counts))
    assert first.counts(2, 2).tolist() == second.counts(2, 2).tolist() == [[8, 10]] * len(LENGTHS)


@pytest.mark.parametrize(
    ("shift", "is_evident", "is_drifted"),
    [
        pytest.param(0.0, False, False, id="no change"),
        pytest.param(0.2, True, False, id="a small change is evident, and no drift below the threshold"),
        pytest.param(0.8, True, True, id="a large change is both"),
    ],
)
def test_drift_needs_evidence_and_size(shift, is_evident, is_drifted):
    rng = np.random.default_rng(2)
    features = [Feature(name=name) for name in "abcde"]
    drift = Drift(features, {one.name: learn(rng.normal(size=5_000)) for one in features}, 0.2, Telemetry())
    for look in range(150):
        by = shift if look >= 100 else 0.0
        drift.update([{one.name: rng.normal(by if one.name == "c" else 0.0, size=100) for one in features}])
    assert drift.drifted == (("c",) if is_drifted else ())
    evident = {one.name for one in drift._seen if one.evidence >= 1 / ALPHA}
    assert evident == ({"c"} if is_evident else set())


def test_a_fault_that_ends_is_forgotten():
    rng = np.random.default_rng(3)
    drift = Drift([Feature(name="a")], {"a": learn(rng.normal(size=2_000))}, 0.2, Telemetry())
    seen = []
    for look in range(240):
        drift.update([{"a": rng.normal(size=100) * (1_000 if 50 <= look < 60 else 1)}])
        seen.append(bool(drift.drifted))
    assert not any(seen[:50])
    assert all(seen[50:60])
    assert not any(seen[-30:])
