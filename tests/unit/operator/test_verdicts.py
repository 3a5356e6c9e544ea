"""Which tags the versions of a registered model get, of what the history says."""

from datetime import timedelta

import pytest
from decision_tables import HEALTHY, NOW, resource

from model_operator.api.source import declared_version, registered_model
from model_operator.api.status import HistoryEntry
from model_operator.api.values import replace
from model_operator.policy.status.verdicts import verdicts

ALIAS, NEWEST = "models:/wine@champion", "model-registry://wine"


def entry(
    version: str, result: str = "Promoted", uri: str = ALIAS, *, days: int = 0, message: str = ""
) -> HistoryEntry:
    at = NOW - timedelta(days=days)
    return HistoryEntry(
        revision=f"r{version}", result=result, reason="Why", at=at, version=version, uri=uri, message=message
    )


def found(*history: HistoryEntry) -> dict[tuple[str, str], str]:
    tags = verdicts(resource(replace(HEALTHY, history=history)))
    return {(one.name, one.version): one.tags["modeldeploy.status"] for one in tags}


def test_the_tags_of_a_version_say_what_became_of_it_and_why() -> None:
    (tags,) = verdicts(resource(replace(HEALTHY, history=(entry("7", "Aborted", message="3.1% is above 1.0%"),))))
    deployment = tags.tags["modeldeploy.deployment"]
    assert (tags.name, tags.version, deployment.count("/")) == ("wine", "7", 1)
    assert tags.tags == {
        "modeldeploy.reason": "Why",
        "modeldeploy.message": "3.1% is above 1.0%",
        "modeldeploy.revision": "r7",
        "modeldeploy.deployment": deployment,
        "modeldeploy.at": NOW.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "modeldeploy.status": "aborted",
    }
    assert list(tags.tags)[-1] == "modeldeploy.status", "who sees a verdict sees its reason"


def test_the_newest_rollout_of_a_version_counts() -> None:
    history = (entry("7", "Aborted"), entry("8", "Promoted", days=1), entry("7", "Promoted", days=2))
    assert found(*history) == {("wine", "7"): "aborted", ("wine", "8"): "promoted"}


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param(entry("7", uri="s3://models/wine"), id="of another storage"),
        pytest.param(entry(""), id="whose version nobody knows"),
        pytest.param(entry("v7"), id="whose version is no number"),
        pytest.param(entry("../7"), id="whose version is a path"),
        pytest.param(entry("\u0667"), id="whose digits are not ASCII"),
    ],
)
def test_no_tags_are_written_for_a_revision(strange: HistoryEntry) -> None:
    assert found(strange, entry("8")) == {("wine", "8"): "promoted"}


def test_the_number_in_a_uri_counts_and_not_what_a_pod_says() -> None:
    assert found(entry("9", uri="models:/wine/7")) == {("wine", "7"): "promoted"}


def test_versions_of_kubeflow_have_names() -> None:
    (tags,) = verdicts(resource(replace(HEALTHY, history=(entry("2.0-rc", uri=NEWEST), entry("a b", uri=NEWEST)))))
    assert (tags.registry, tags.name, tags.version) == ("kubeflow", "wine", "2.0-rc")


def test_a_long_message_is_cut_to_what_a_tag_takes() -> None:
    (tags,) = verdicts(resource(replace(HEALTHY, history=(entry("7", message="x" * 10_000),))))
    assert len(tags.tags["modeldeploy.message"]) == 4000


@pytest.mark.parametrize(
    ("uri", "fingerprint", "version"),
    [
        ("models:/wine/7", "", "7"),
        ("models:/wine/7", "8-13d7e7aba2461053", "7"),
        (ALIAS, "8-13d7e7aba2461053", "8"),
        (ALIAS, "13d7e7aba2461053", ""),
        (ALIAS, "", ""),
        ("s3://models/wine", "8-13d7e7aba2461053", ""),
        ("model-registry://wine/2.0.0", "", "2.0.0"),
        (NEWEST, "2.0-rc-13d7e7aba2461053", "2.0-rc"),
        (NEWEST, "13d7e7aba2461053", ""),
        (NEWEST, "../2-13d7e7aba2461053", ""),
        (NEWEST, "", ""),
    ],
)
def test_the_version_of_a_revision_that_never_served(uri: str, fingerprint: str, version: str) -> None:
    assert declared_version(uri, fingerprint) == version


@pytest.mark.parametrize(
    "uri",
    [
        "models:/wine",
        "models:/wine/x",
        "models://wine@a",
        "models:/a/b/1",
        "file:///models",
        "model-registry://host:80/wine/1",
        "model-registry://wine/..",
    ],
)
def test_another_uri_names_no_registered_model(uri: str) -> None:
    assert registered_model(uri) is None
