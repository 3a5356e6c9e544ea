"""What an apply would change: the request, the text, and what comes of it."""

import json
from typing import Any

import pytest

from modeldeploy.changes import Effect, effect_of, request_for, unified
from modeldeploy.changes.applying import LAST_APPLIED, Way, three_way
from modeldeploy.changes.effect import sources_of

MODEL = {"storageUri": "s3://m/1"}


def an_object(spec: dict[str, Any], *, status: dict[str, Any] | None = None, **annotations: str) -> dict[str, Any]:
    named = {f"modeldeploy.dev/{name}": value for name, value in annotations.items()}
    return {"metadata": {"name": "m", "annotations": named}, "spec": {"model": MODEL, **spec}, "status": status or {}}


@pytest.mark.parametrize(
    ("last", "manifest", "live", "patch"),
    [
        pytest.param({}, {"a": 1}, {}, {"a": 1}, id="a field is added"),
        pytest.param({"a": 1}, {"a": 2}, {"a": 1}, {"a": 2}, id="a field is changed"),
        pytest.param({"a": 1}, {"a": 1}, {"a": 5}, {"a": 1}, id="what somebody changed is changed back"),
        pytest.param({"a": 1}, {}, {"a": 1}, {"a": None}, id="a field that is not written any more is removed"),
        pytest.param({}, {}, {"a": 1}, {}, id="what others wrote stays"),
        pytest.param({"a": 1}, {}, {}, {}, id="what is gone already is not removed"),
        pytest.param(
            {"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, {"a": {"c": None}}, id="inside"
        ),
        pytest.param({}, {"a": [1]}, {"a": [2, 3]}, {"a": [1]}, id="a list is one value"),
        pytest.param({}, {"a": {"b": 1}}, {"a": 3}, {"a": {"b": 1}}, id="another type"),
        pytest.param({}, {"a": None}, {"a": 1}, {}, id="a null that was never applied"),
    ],
)
def test_three_way(last: Any, manifest: Any, live: Any, patch: Any) -> None:
    assert three_way(last, manifest, live) == patch


def test_an_object_that_is_not_there_is_created() -> None:
    assert request_for({"kind": "X"}, None).way is Way.CREATE


def test_an_object_is_changed_as_it_was_applied_last() -> None:
    applied = {"metadata": {"name": "m", "annotations": {LAST_APPLIED: json.dumps({"spec": {"replicas": 2}})}}}
    manifest = {"metadata": {"name": "m"}, "spec": {}}
    request = request_for(manifest, {**applied, "spec": {"replicas": 2}})
    assert (request.way, request.body) == (Way.MERGE, {"spec": {"replicas": None}})
    managed = [
        {"manager": "operator", "operation": "Apply", "subresource": "status"},
        {"manager": "kubectl-edit", "operation": "Update"},
        {"manager": "argocd-controller", "operation": "Apply"},
    ]
    request = request_for(manifest, {"metadata": {"managedFields": managed}})
    assert (request.way, request.manager) == (Way.APPLY, "argocd-controller")
    spoiled = {"metadata": {"annotations": {LAST_APPLIED: "{"}}, "spec": {"replicas": 2}}
    assert request_for(manifest, spoiled).body == {"metadata": {"name": "m"}}


def test_namespace_and_annotations_of_others_stay() -> None:
    written = {"metadata": {"name": "m", "annotations": {}, "namespace": "n"}, "spec": {}}
    metadata = {"name": "m", "namespace": "n", "annotations": {LAST_APPLIED: json.dumps(written), "other": "x"}}
    live = {"metadata": metadata, "spec": {}}
    assert request_for({"metadata": {"name": "m"}, "spec": {}}, live).body == {}
    written["metadata"]["annotations"] = {"mine": "x"}
    metadata["annotations"] = {LAST_APPLIED: json.dumps(written), "other": "x", "mine": "x"}
    patch = request_for({"metadata": {"name": "m"}, "spec": {}}, live).body
    assert patch == {"metadata": {"annotations": {"mine": None}}}


STABLE = {"stableRevision": "abc"}
ROLLING = {"stableRevision": "abc", "canaryRevision": "def"}
NEW = {"model": {"storageUri": "s3://m/2"}}


@pytest.mark.parametrize(
    ("change", "status", "kept", "rolls", "message"),
    [
        pytest.param({}, STABLE, {}, False, "no change", id="nothing"),
        pytest.param(
            {"replicas": 3, "paused": True},
            STABLE,
            {},
            False,
            "no new revision, no pod restarts: spec.paused, spec.replicas",
            id="what pods know nothing of",
        ),
        pytest.param(
            NEW, STABLE, {}, True, "a new revision, rolls out by rollingUpdate: spec.model.storageUri", id="a model"
        ),
        pytest.param(
            {**NEW, "strategy": {"canary": {"steps": [{"setWeight": 10}, {"pause": {}}, {"setWeight": 60}]}}},
            STABLE,
            {},
            True,
            "a new revision, rolls out by canary (10 %, 60 %): spec.model.storageUri",
            id="in steps",
        ),
        pytest.param(
            {**NEW, "strategy": {"canary": {}}},
            STABLE,
            {},
            True,
            "a new revision, rolls out by canary (5 %, 25 %, 50 %): spec.model.storageUri",
            id="in the usual steps",
        ),
        pytest.param(
            {**NEW, "strategy": {"blueGreen": {"autoPromote": False}}, "paused": True},
            STABLE,
            {},
            True,
            "a new revision, rolls out by blueGreen (a user promotes), and is held: spec.paused is true:"
            " spec.model.storageUri",
            id="held",
        ),
        pytest.param(
            NEW,
            ROLLING,
            {},
            True,
            "a new revision, in place of def, which is being rolled out, rolls out by rollingUpdate:"
            " spec.model.storageUri",
            id="in the middle of a rollout",
        ),
        pytest.param(
            NEW,
            ROLLING,
            {"abc": {**NEW, "server": {}}},
            True,
            "back to revision abc, which is stable; the rollout of def ends: spec.model.storageUri",
            id="back to what is stable",
        ),
        pytest.param(
            NEW,
            STABLE,
            {"old": {**NEW, "server": {}}, "abc": {"model": MODEL}},
            True,
            "revision old, which the cluster still has, rolls out by rollingUpdate: spec.model.storageUri",
            id="back to an older one",
        ),
        pytest.param(
            NEW,
            {
                **STABLE,
                "history": [{"revision": "old", "result": "Promoted"}, {"revision": "old", "result": "Aborted"}],
            },
            {"old": NEW},
            True,
            "back to revision old, which was live before, without steps: spec.model.storageUri",
            id="back to one that was live",
        ),
        pytest.param(
            NEW,
            {**STABLE, "abortedRevision": "old", "history": [{"revision": "old", "result": "Aborted"}]},
            {"old": NEW},
            False,
            "revision old, which was aborted and is not tried again (kubectl modeldeploy retry m):"
            " spec.model.storageUri",
            id="one that was aborted",
        ),
        pytest.param(
            NEW,
            {**STABLE, "source": {"mark": "etag"}},
            {"old": {**NEW, "server": {}}},
            True,
            "a new revision, rolls out by rollingUpdate: spec.model.storageUri",
            id="what polling found is in the name of a revision",
        ),
        pytest.param(
            {"server": {"env": [{"name": "A", "value": "1"}], "workers": 2}},
            STABLE,
            {},
            True,
            "a new revision, rolls out by rollingUpdate: spec.server.env, spec.server.workers",
            id="each field that pods are made from",
        ),
    ],
)
def test_what_comes_of_it(change: Any, status: Any, kept: Any, rolls: bool, message: str) -> None:
    live, after = an_object({}, status=status), an_object(change, status=status)
    assert effect_of(live, after, kept) == Effect(bool(change), rolls, message)


def test_a_refresh_is_a_new_revision() -> None:
    effect = effect_of(an_object({}), an_object({}, refresh="1"), {"abc": {"model": MODEL}})
    assert effect.rolls
    assert effect.message.endswith("rolls out by rollingUpdate: metadata.annotations.modeldeploy.dev/refresh")


def test_an_object_that_is_not_there_would_be_created() -> None:
    assert effect_of(None, an_object({}), {}).message.startswith("would be created")


def test_revisions_that_cannot_be_read_are_left_out() -> None:
    def a_deployment(revision: str, text: str | None) -> dict[str, Any]:
        annotations = {} if text is None else {"modeldeploy.dev/revision-spec": text}
        return {"metadata": {"labels": {"modeldeploy.dev/revision": revision}, "annotations": annotations}}

    rows = [("a", json.dumps({"model": MODEL})), ("b", "{"), ("c", None), ("d", "[]")]
    assert sources_of([a_deployment(*row) for row in rows]) == {"a": {"model": MODEL}}


def test_the_text_shows_what_users_write_and_nothing_else() -> None:
    live, after = an_object({"replicas": 1}, status=STABLE, old="x"), an_object({"replicas": 2}, old="x")
    lines = unified(live, after, "n/m")
    assert lines[:2] == ["--- live/n/m", "+++ merged/n/m"]
    assert [line for line in lines if line[0] in "+-"][2:] == ["-  replicas: 1", "+  replicas: 2"]
    assert unified(None, after, "n/m")[-1] == "+  replicas: 2"
    assert unified(live, live, "n/m") == []


def test_a_value_of_a_stranger_steers_no_terminal() -> None:
    (line,) = (one for one in unified(None, an_object({"x": "\x1b[2J"}), "n/m") if "x:" in one)
    assert "\x1b" not in line
