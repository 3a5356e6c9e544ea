"""Processor time and memory of all workers, and the time of the last request, in `/metrics`."""

from __future__ import annotations

import time
from mmap import mmap

import pytest

from model_server.shared_values import SharedValues
from model_server.telemetry import Telemetry


def shown(telemetry: Telemetry) -> dict[str, float]:
    return {sample.name: sample.value for family in telemetry.registry.collect() for sample in family.samples}


def test_a_server_tells_what_it_uses():
    began = time.time()
    telemetry = Telemetry()
    before = shown(telemetry)
    assert began - 0.01 <= before["process_start_time_seconds"] <= time.time()
    assert 2**20 < before["process_resident_memory_bytes"] < 2**40
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert shown(telemetry)["process_cpu_seconds_total"] >= before["process_cpu_seconds_total"] + 0.05


def test_workers_are_added_up_and_the_first_start_counts():
    memory = mmap(-1, SharedValues.size(2))
    first, second = Telemetry(memory, 0), Telemetry(memory, 1)
    alone = shown(Telemetry())["process_resident_memory_bytes"]
    found = shown(second)
    assert found["process_resident_memory_bytes"] == pytest.approx(2 * alone, rel=0.2)
    assert found["process_start_time_seconds"] == shown(first)["process_start_time_seconds"]


def test_the_last_request_is_that_of_any_worker():
    memory = mmap(-1, SharedValues.size(2))
    first, second = Telemetry(memory, 0), Telemetry(memory, 1)
    assert "modeldeploy_last_request_timestamp_seconds" not in shown(second)
    first.begin()
    first.end(422, 0.1)
    assert shown(second)["modeldeploy_last_request_timestamp_seconds"] == pytest.approx(time.time(), abs=5)
