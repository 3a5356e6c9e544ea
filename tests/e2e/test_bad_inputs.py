"""A unit error in one feature is named by the condition, and a version that has learnt another unit goes back.

A package without a profile says what it lacks.
"""

from typing import Any

import httpx
import pytest
import yaml
from labelled_load import LabelledLoad
from model_packages import judged_label, ranges, some_rows
from waiting import wait_until

from modeldeploy.kube import EVENTS, MODELDEPLOYMENTS

NAME = "measured"
FEATURE = "mean_radius"
REQUESTS = 200


@pytest.fixture(scope="module")
def packages_with_profiles(space: Any) -> None:
    """Versions of the judged model: with the profile of its training data, with that in another unit, with another."""
    rows = some_rows(1000)
    profile = {}
    for place, name in enumerate(ranges()):
        numbers = sorted(row[place] for row in rows)
        profile[name] = {"edges": [*numbers[::100], numbers[-1]], "counts": [100] * 10, "missing": 0}
    metres = {**profile[FEATURE], "edges": [edge / 100 for edge in profile[FEATURE]["edges"]]}
    others = {"amount": {"edges": [0, 1], "counts": [5]}}
    for version, described in (("1", profile), ("2", others), ("3", {**profile, FEATURE: metres})):
        package = space.cluster.models / "measured" / version
        package.mkdir(parents=True)
        source = space.cluster.models / "judged" / "1"
        (package / "model.py").write_text((source / "model.py").read_text())
        own = {**yaml.safe_load((source / "model.yaml").read_text()), "version": version}
        (package / "model.yaml").write_text(yaml.safe_dump({**own, "reference_profile": described}))


def condition(space: Any) -> dict[str, str]:
    conditions = space.kube.get(MODELDEPLOYMENTS, NAME).get("status", {}).get("conditions", ())
    return next((one for one in conditions if one["type"] == "DataQuality"), {})


def ask(space: Any, rows: list[list[float]]) -> None:
    with httpx.Client(base_url=space.url(NAME), trust_env=False) as client:
        for row in rows:
            answer = client.post("/predict", json={"instances": [dict(zip(ranges(), row, strict=True))]})
            assert answer.status_code == 200, answer.text


@pytest.mark.timeout(180)
def test_a_unit_error_is_named_within_200_requests(space: Any, packages_with_profiles: None) -> None:
    space.apply(NAME, "measured/1", monitoring={"dataQuality": {}})
    space.wait_live(NAME, "1")
    ask(space, some_rows(50))
    wait_until(lambda: condition(space).get("status") == "True", lambda: f"good: {condition(space)}", seconds=40)
    place = list(ranges()).index(FEATURE)
    wrong = [[100 * value if at == place else value for at, value in enumerate(row)] for row in some_rows(REQUESTS)]
    ask(space, wrong)
    wait_until(lambda: condition(space)["status"] == "False", lambda: f"bad: {condition(space)}", seconds=40)
    found = condition(space)
    assert found["reason"] == "OutOfRange"
    assert found["message"].startswith(f"{FEATURE} is outside of the range of the training data in ")
    wait_until(lambda: any(one["reason"] == "OutOfRange" for one in space.kube.list(EVENTS)), "an Event tells it")
    told = [event["message"] for event in space.kube.list(EVENTS) if event["reason"] == "OutOfRange"]
    assert any(message.startswith(f"{FEATURE} is outside of the range of the training data in ") for message in told)


@pytest.mark.timeout(120)
def test_a_version_that_has_learnt_another_unit_goes_back(space: Any, packages_with_profiles: None) -> None:
    analysis = {"interval": "1s", "warmup": "0s", "metrics": [{"name": "data-quality", "fail": {}}]}
    canary = {
        "steps": [{"setWeight": 50}, {"analysis": {"maxDuration": "2m"}}],
        "abortScaleDownDelaySeconds": 0,
        "analysis": analysis,
    }
    rest: dict[str, Any] = {"strategy": {"canary": canary}, "monitoring": {"dataQuality": {}}}

    def status() -> dict[str, Any]:
        found: dict[str, Any] = space.kube.get(MODELDEPLOYMENTS, NAME).get("status", {})
        return found

    with LabelledLoad(space.url(NAME), list(ranges()), some_rows(200), judged_label, rate=160):
        space.apply(NAME, "measured/3", **rest)
        wait_until(lambda: status()["phase"] == "Degraded", lambda: f"it went back: {status()}", seconds=90)
    assert status()["rollback"]["reason"] == "AnalysisFailed"
    assert status()["rollback"]["message"].startswith("data-quality: canary ")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("package", "reason", "says"),
    [
        pytest.param("judged/1", "ReferenceProfileMissing", "has no reference_profile", id="no profile"),
        pytest.param("measured/2", "MetadataInvalid", "reference_profile names 'amount'", id="that of another model"),
    ],
)
def test_a_package_that_cannot_be_compared_with_says_why(
    space: Any, packages_with_profiles: None, package: str, reason: str, says: str
) -> None:
    space.apply(NAME, package, monitoring={"dataQuality": {}})
    wait_until(lambda: condition(space).get("reason") == reason, lambda: f"{condition(space)}", seconds=60)
    found = condition(space)
    assert found["status"] == "Unknown"
    assert says in found["message"]
