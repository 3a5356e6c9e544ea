"""The Job of `modeldeploy labels`, and the report as text."""

from collections.abc import Sequence
from typing import Any

import pytest

from modeldeploy.late_labels import addresses_of, job_of, last_message, lines_of
from modeldeploy.requests import Refused

Body = dict[str, Any]

READY = [{"type": "Ready", "status": "True"}]


def a_pod(
    revision: str = "5c1a", *, ip: str = "10.0.0.1", conditions: Sequence[Body] = READY, scheme: str = "http"
) -> Body:
    return {
        "metadata": {"labels": {"modeldeploy.dev/revision": revision, "modeldeploy.dev/scheme": scheme}},
        "spec": {"containers": [{"name": "server", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"podIP": ip, "conditions": conditions},
    }


def test_a_label_goes_to_a_ready_pod_of_its_revision() -> None:
    pods = [a_pod(), a_pod("77b2", ip="fd00::1"), a_pod("0000", conditions=[])]
    assert addresses_of(pods) == {"5c1a": "http://10.0.0.1:8080", "77b2": "http://[fd00::1]:8080"}


def test_pods_that_speak_tls_are_refused_with_what_to_do() -> None:
    with pytest.raises(Refused, match="add --dry-run"):
        addresses_of([a_pod(scheme="https")])


def test_the_job_is_the_pod_of_a_revision_that_no_service_selects() -> None:
    template = {
        "metadata": {"labels": {"modeldeploy.dev/name": "fraud"}},
        "spec": {
            "terminationGracePeriodSeconds": 60,
            "volumes": [{"name": "model"}],
            "containers": [
                {"name": "server", "image": "server:1", "ports": [{}], "readinessProbe": {}, "env": [{"name": "A"}]},
                {"name": "proxy"},
            ],
        },
    }
    model = {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "fraud", "uid": "1"},
    }
    job = job_of(model, {"spec": {"template": template}}, ["--dry-run"])
    pod = job["spec"]["template"]
    assert pod["metadata"]["labels"] == {"modeldeploy.dev/labels-of": "fraud"}
    (container,) = pod["spec"]["containers"]
    assert container == {
        "name": "labels",
        "image": "server:1",
        "env": [{"name": "A"}],
        "args": ["labels", "--dry-run"],
    }
    assert job["metadata"]["ownerReferences"][0]["uid"] == "1"


def test_the_newest_pod_of_a_job_tells_how_it_ended() -> None:
    def ended(at: str, message: str) -> Body:
        state = {"terminated": {"finishedAt": at, "message": message}}
        return {"status": {"containerStatuses": [{"name": "labels", "state": state}]}}

    assert last_message([ended("2026-01-01T00:00:02Z", "new"), ended("2026-01-01T00:00:01Z", "old"), {}]) == "new"
    assert last_message([]) == ""


def test_the_report_names_what_was_not_used() -> None:
    counts: Body = {"already_sent": 2, "not_sent": 0, "unconfirmed": 0, "refused": 1, "conflicting": 0, "repeated": 0}
    revision: Body = {
        "version": "1",
        "predictions": 4,
        "labelled": 3,
        "sent": 1,
        "first_refused": "id a: 7 is no class",
    }
    labels: Body = {"conflicting": 1, "first_conflicting": "b", "late": 0, "unknown": 2, "empty": 0}
    log = {"broken": 0, "other_models": 0, "without_id": 0}
    report = {
        "revisions": {"5c1a": {**counts, **revision, "metrics": {"accuracy": 0.75}}},
        "labels": labels,
        "log": log,
    }
    assert list(lines_of(report)) == [
        "5c1a (version 1): accuracy 0.75; 3 labelled of 4 predictions, 1 sent, 2 sent before, 1 refused",
        "  the first that was refused: id a: 7 is no class",
        "1 ids have two different labels, and were not used; the first is b",
        "2 labels have an id that is not in the log",
    ]
