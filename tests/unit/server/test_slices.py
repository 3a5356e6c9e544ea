"""Slices: who is counted where, what is bounded, and what cannot be told apart."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from model_operator.api.sums import SliceCounts
from model_operator.clients.metrics_page import parse
from model_server.domain.features import Feature, Metadata, ReferenceFeature
from model_server.domain.model import Identity, LoadedModel
from model_server.domain.tensors import Tensor
from model_server.errors import InvalidInput, SettingsInvalid
from model_server.inputs.columns import Columns
from model_server.monitoring.monitor import Monitor
from model_server.monitoring.slices import slice_of
from model_server.settings import read_settings
from model_server.telemetry import Telemetry

SEX = Feature(name="sex", dtype="string")


def monitor_of(
    slices: str, *features: Feature, classes: Any = (0, 1), datatype: str = "INT64", metadata: Metadata | None = None
) -> tuple[Monitor, Telemetry]:
    telemetry = Telemetry()
    telemetry.loaded(Identity(model="m", version="1", revision="r"))
    loaded = LoadedModel(
        identity=telemetry.identity,
        metadata=metadata or Metadata(),
        adapter=Columns(features),
        model=SimpleNamespace(classes=classes, probability_output=""),
        outputs=(Tensor("predict", datatype, (-1,)),),
    )
    settings = read_settings({"MODEL_SERVER_STORAGE_URI": "file:///m", "MODEL_SERVER_SLICES": slices})
    return Monitor(loaded, settings, telemetry), telemetry


def counted(monitor: Monitor, telemetry: Telemetry) -> Any:
    asyncio.run(monitor.tick())
    return parse(telemetry.render().decode()).slices


def predict(monitor: Monitor, identifier: str, sexes: list[str], said: list[int]) -> None:
    inputs = {"sex": np.array(sexes, dtype=object)}
    monitor.predicted(identifier.encode(), inputs, {"predict": np.array(said)})


def test_a_label_counts_for_the_group_of_its_row() -> None:
    monitor, telemetry = monitor_of("sex", SEX)
    predict(monitor, "1", ["f", "m"], [1, 1])
    monitor.labelled({"id": "1", "label": [1, 0]})
    assert counted(monitor, telemetry) == {
        ("sex", "f"): SliceCounts(tp=1, positive=1),
        ("sex", "m"): SliceCounts(fp=1, positive=1),
    }


def test_an_attribute_that_the_model_does_not_get_comes_with_the_feedback() -> None:
    monitor, telemetry = monitor_of("region", SEX)
    predict(monitor, "1", ["f"], [0])
    monitor.labelled({"id": "1", "label": 1, "groups": {"region": "north"}})
    monitor.labelled({"prediction": 0, "label": 0, "groups": {"region": None}})
    assert counted(monitor, telemetry) == {
        ("region", "north"): SliceCounts(fn=1, negative=1),
        ("region", "missing"): SliceCounts(tn=1, negative=1),
    }


def test_more_classes_are_right_or_wrong() -> None:
    monitor, telemetry = monitor_of("sex", SEX, classes=("a", "b", "c"), datatype="BYTES")
    monitor.labelled({"prediction": "a", "label": "b", "groups": {"sex": "f"}})
    monitor.labelled({"prediction": "a", "label": "a", "groups": {"sex": "f"}})
    assert counted(monitor, telemetry) == {("sex", "f"): SliceCounts(right=1, mistaken=1)}


def test_groups_beyond_the_most_are_others() -> None:
    monitor, telemetry = monitor_of("sex:2", SEX)
    predict(monitor, "1", ["a", "b", "c", "d", "a", "x" * 100], [0] * 6)
    found = counted(monitor, telemetry)
    assert {group: counts.negative for (_, group), counts in found.items()} == {"a": 2, "b": 1, "other": 3}


def test_numbers_are_told_apart_by_the_bins_of_the_profile() -> None:
    profile = {"age": ReferenceFeature(edges=(0, 30, 60, 90), counts=(1, 1, 1))}
    age = Feature(name="age")
    monitor, telemetry = monitor_of("age", age, metadata=Metadata(input_features=(age,), reference_profile=profile))
    monitor.predicted(b"1", {"age": np.array([5.0, 30.0, 99.0])}, {"predict": np.array([0, 0, 1])})
    assert {group for _, group in counted(monitor, telemetry)} == {"below 30", "30 to 60", "60 and above"}


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(lambda: monitor_of("age", Feature(name="age")), "a number of any size", id="numbers without bins"),
        pytest.param(lambda: monitor_of("sex", SEX, classes=(), datatype="FP64"), "answers numbers", id="regression"),
        pytest.param(lambda: slice_of("sex:99"), "is no slice", id="too many groups"),
        pytest.param(
            lambda: read_settings(
                {"MODEL_SERVER_STORAGE_URI": "file:///m", "MODEL_SERVER_SLICES": "a", "MODEL_SERVER_WORKERS": "2"}
            ),
            "do not go together",
            id="several workers",
        ),
    ],
)
def test_what_cannot_be_told_apart_is_said(make: Any, why: str) -> None:
    with pytest.raises(SettingsInvalid, match=why):
        make()


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        pytest.param({"sexe": "f"}, "'sexe' is no slice; the slices are sex", id="another name"),
        pytest.param("f", "expected an object", id="no object"),
        pytest.param({"sex": ["f"]}, "expected a text", id="a list"),
    ],
)
def test_groups_that_fit_no_slice_are_refused(groups: Any, why: str) -> None:
    monitor, telemetry = monitor_of("sex", SEX)
    with pytest.raises(InvalidInput, match=why):
        monitor.labelled({"prediction": 0, "label": 1, "groups": groups})
    assert counted(monitor, telemetry) == {}
