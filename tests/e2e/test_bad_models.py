"""A model that cannot serve: the reason is readable on the resource, and the old revision keeps serving."""

from typing import Any

import httpx
import pytest
from model_packages import own_predictions, some_rows
from waiting import wait_until

from modeldeploy.kube import EVENTS, MODELDEPLOYMENTS

NAME = "patient"


@pytest.fixture(scope="module")
def patient(space: Any) -> Any:
    space.apply(NAME, "quick/breast-cancer/1")
    space.wait_live(NAME, "1")
    return space


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("package", "model", "reason"),
    [
        pytest.param("quick/breast-cancer/99", {}, "ArtifactNotFound", id="a file that is not there"),
        pytest.param("damaged", {}, "ArtifactCorrupt", id="a file that cannot be unpickled"),
        pytest.param("pickled", {"format": "onnx"}, "FormatMismatch", id="a wrong format"),
        pytest.param("pickled", {"format": "prophet"}, "FormatUnknown", id="a format of a plug-in that is not there"),
        pytest.param(
            "pickled",
            {"storageUri": "webhdfs://node/m"},
            "SettingsInvalid",
            id="a scheme of a plug-in that is not there",
        ),
        pytest.param("no-predict", {}, "LoadFailed", id="a model.py without predict"),
        pytest.param("pickled", {"trusted": False}, "ArtifactNotTrusted", id="a pickle nobody vouched for"),
        pytest.param(
            "quick/breast-cancer/2", {"sha256": "0" * 64}, "DigestMismatch", id="a file other than the pinned"
        ),
        pytest.param(
            "quick/breast-cancer/2",
            {"secretName": "not-there"},
            "CreateContainerConfigError",
            id="a missing Secret",
        ),
    ],
)
def test_the_reason_is_told_and_the_old_revision_serves(
    patient: Any, package: str, model: dict[str, Any], reason: str
) -> None:
    patient.apply(NAME, package, model=model)

    def told() -> dict[str, Any] | None:
        status = patient.kube.get(MODELDEPLOYMENTS, NAME)["status"]
        return next((one for one in status.get("podFailures", ()) if one["reason"] == reason), None)

    failure = wait_until(told, f"status names {reason}", seconds=90)
    assert failure is not None
    assert failure["message"]
    wait_until(lambda: event_with(patient, reason), f"an Event names {reason}", seconds=20)

    rows = some_rows(5)
    answer = httpx.post(f"{patient.url(NAME)}/predict", json={"instances": rows}, trust_env=False)
    assert answer.json()["predictions"] == own_predictions("1", rows)
    assert answer.json()["model_version"] == "1"


def event_with(space: Any, reason: str) -> list[dict[str, Any]]:
    events = space.kube.list(EVENTS, fields=f"involvedObject.name={NAME}")
    return [one for one in events if reason in f"{one.get('reason')} {one.get('message')}"]


@pytest.mark.timeout(180)
def test_the_model_recovers_by_a_good_spec(patient: Any) -> None:
    """The last broken spec, the missing Secret, is still waited for when the good one comes."""
    patient.apply(NAME, "quick/breast-cancer/2")
    patient.wait_live(NAME, "2", seconds=30)
    status = patient.kube.get(MODELDEPLOYMENTS, NAME)["status"]
    assert not status.get("podFailures")


@pytest.mark.timeout(180)
def test_the_model_is_healthy_again_when_the_spec_goes_back(patient: Any) -> None:
    patient.apply(NAME, "quick/breast-cancer/1")
    patient.wait_live(NAME, "1")
