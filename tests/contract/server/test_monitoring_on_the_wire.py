"""What the server counts of answers and labels is what the operator judges: no number changes on the way."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from model_operator.api.inputs import InputSample
from model_operator.clients.metrics_page import parse
from model_server.domain.features import Feature, Metadata, ReferenceFeature
from model_server.domain.model import Identity, LoadedModel, Signature
from model_server.domain.tensors import Tensor
from model_server.errors import InputRefused, InvalidInput, MalformedRequest, Unauthorized
from model_server.inputs.untyped import Untyped
from model_server.monitoring.data_quality import DataQuality, limits_by_problem
from model_server.monitoring.monitor import Monitor
from model_server.settings import Settings
from model_server.telemetry import Telemetry


class Classifier:
    """Knows two classes, and says what its rows say."""

    signature = Signature()
    probability_output = "probabilities"
    classes = (0, 1)
    runs_inline = True

    def predict(self, inputs, *, probabilities):
        raise NotImplementedError


@pytest.fixture
def page() -> str:
    telemetry = Telemetry()
    telemetry.loaded(Identity(model="m", version="1", revision="r"))
    loaded = LoadedModel(
        identity=telemetry.identity,
        metadata=Metadata(),
        adapter=Untyped(),
        model=Classifier(),
        outputs=(Tensor("predictions", "INT64", (-1,)),),
    )
    monitor = Monitor(loaded, Settings(storage_uri="file:///m"), telemetry)
    # predicted, labelled, probability of the label
    for number, (said, right, sure) in enumerate([(1, 1, 0.8), (1, 0, 0.3), (0, 0, 0.9), (0, 1, 0.4)]):
        rows = np.array([[sure, 1 - sure]]) if right == 0 else np.array([[1 - sure, sure]])
        outputs = {"predictions": np.array([said]), "probabilities": rows}
        monitor.predicted(str(number).encode(), {}, outputs)
        monitor.labelled({"id": str(number), "label": right})
    monitor.labelled({"conversion": True})
    asyncio.run(monitor.tick())
    monitor.close()
    return telemetry.render().decode()


def test_refusals_are_counted_of_all_reasons() -> None:
    telemetry = Telemetry()
    telemetry.loaded(Identity(model="m", version="1", revision="r"))
    assert parse(telemetry.render().decode()).refusals == 0, "a server that refused nothing yet says so"
    for error in (InvalidInput, InputRefused, MalformedRequest, Unauthorized):
        telemetry.refused(error)
    assert parse(telemetry.render().decode()).refusals == 3
    assert parse('modeldeploy_requests_total{code="200"} 1.0').refusals is None, "an older server"


def test_what_requests_look_like_arrives() -> None:
    telemetry = Telemetry()
    telemetry.loaded(Identity(model="m", version="1", revision="r"))
    assert parse(telemetry.render().decode()).inputs is None, "a server that does not compare requests"
    features = [Feature(name='the "height"'), Feature(name="plan", dtype="string")]
    profile = {
        features[0].name: ReferenceFeature(edges=(0, 1, 2), counts=(500, 500)),
        "plan": ReferenceFeature(categories={"a": 500, "b": 500}),
    }
    metadata = Metadata(input_features=tuple(features), reference_profile=profile)
    quality = DataQuality(features, metadata, limits_by_problem(0.05, ["outlier:0.2"]), telemetry)
    assert parse(telemetry.render().decode()).inputs == InputSample()
    for _ in range(20):
        quality.update([{features[0].name: np.array([170.0, 1.0]), "plan": np.array(["c", "a"], dtype=object)}])
    found = parse(telemetry.render().decode()).inputs
    assert found is not None
    assert (found.requests, found.bad, found.outliers) == (20, 20, 20)
    shares = {(one.feature, one.problem): (one.share, round(one.limit, 3)) for one in found.findings}
    assert shares == {
        ("", "outlier"): (0.5, 0.201),
        (r"the \"height\"", "out_of_range"): (0.5, 0.052),
        ("plan", "unseen_category"): (0.5, 0.051),
    }


def test_answers_are_counted_by_class(page: str) -> None:
    assert parse(page).outputs == {"0": 2, "1": 2}


@pytest.mark.parametrize(
    ("metric", "count", "wrong"),
    [("accuracy", 4, 2), ("precision", 2, 1), ("recall", 2, 1), ("f1", 3, 2), ("conversion", 1, 0)],
)
def test_right_and_wrong_answers_arrive(page: str, metric: str, count: int, wrong: int) -> None:
    found = parse(page).quality[metric]
    assert (found.count, found.total, found.squares) == (count, wrong, wrong)


def test_losses_arrive_with_their_squares(page: str) -> None:
    losses = -np.log([0.8, 0.3, 0.9, 0.4])
    found = parse(page).quality["log-loss"]
    assert found.count == 4
    assert found.total == pytest.approx(losses.sum())
    assert found.squares == pytest.approx((losses**2).sum())
