"""The page of one model: steps, evidence, revisions, drift, differences, actions and the form for a prediction."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from modeldeploy.dashboard.definition import schema
from modeldeploy.dashboard.exposition import counters_of, drifted_of, series_of
from modeldeploy.dashboard.view import notices
from modeldeploy.dashboard.view.actions import VERBS, Moved, actions_of, patch_of, state_of
from modeldeploy.dashboard.view.difference import differences_of, manifest_of
from modeldeploy.dashboard.view.evidence import evidence_of
from modeldeploy.dashboard.view.inputs import drift_of, importance_of, quality_of
from modeldeploy.dashboard.view.prediction import BadValue, NoForm, body_from_json, body_of, form_of
from modeldeploy.dashboard.view.revisions import revisions_of
from modeldeploy.dashboard.view.steps import timeline, title_of
from modeldeploy.kube import KubeError
from modeldeploy.requests import Refused
from modeldeploy.rollout import Rollout

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
STEPS = [{"setWeight": 20}, {"pause": {"duration": "5m"}}, {"pause": {}}, {"setWeight": 50}]
PAST = [
    {"revision": "5c1a", "result": "Promoted", "version": "7", "at": "2026-05-01T11:00:00Z", "sha256": "ab"},
    {"revision": "4b0f", "result": "Promoted", "version": "6", "at": "2026-04-01T11:00:00Z"},
]


def body(*, spec: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "fraud", "namespace": "risk", "generation": 1},
        "spec": {"strategy": {"canary": {"steps": STEPS}}, **(spec or {})},
        "status": {"observedGeneration": 1, "stableRevision": "5c1a", "history": PAST, **status},
    }


def rollout(index: int = 2, *, spec: dict[str, Any] | None = None, **status: Any) -> Rollout:
    given = {"canaryRevision": "6f8d", "phase": "Paused", "currentStepIndex": index, "step": f"{index + 1}/4"}
    return Rollout.from_body(body(spec=spec, **{**given, "stepStartedAt": "2026-05-01T11:58:00Z", **status}))


# --- steps


def test_the_timeline_ends_with_the_promotion() -> None:
    steps = timeline(rollout(2), now=NOON)
    assert [step.state for step in steps] == ["done", "done", "current", "next", "next"]
    assert [step.title for step in steps][-2:] == ["Send 50 % of the traffic", "Promote to all traffic"]
    assert steps[2].waits == "Waits until a person promotes or aborts."
    assert timeline(Rollout.from_body(body()), now=NOON) == []


@pytest.mark.parametrize(
    ("given", "waits"),
    [
        pytest.param(rollout(1), "The pause ends in 3m.", id="a pause says what is left"),
        pytest.param(
            rollout(spec={"paused": True}),
            "The rollout is paused (spec.paused). Resume it to go on.",
            id="a rollout that is held says by what",
        ),
        pytest.param(
            rollout(0, phase="Progressing", message="step 1/4: waits for 1 pod"),
            "Waits for 1 pod",
            id="any other step says what the operator says",
        ),
    ],
)
def test_what_the_current_step_waits_for(given: Rollout, waits: str) -> None:
    assert next(step.waits for step in timeline(given, now=NOON) if step.state == "current") == waits


@pytest.mark.parametrize(
    ("step", "title"),
    [
        ({"analysis": {"minDuration": "5m"}}, "Analyse for 5m at least"),
        ({"evaluate": {"metrics": [{"name": "accuracy"}]}}, "Evaluate on labelled data: accuracy"),
        ({"setHeaderRoute": {"match": [{"headerName": "x-beta"}]}}, "Send requests with x-beta"),
        ({"setHeaderRoute": {}}, "Remove the header route"),
        ({"setMirrorRoute": {"percentage": 20}}, "Copy 20 % of the requests"),
        ({"setCanaryScale": {"weight": 50}}, "Scale the canary: 50 % of the pods"),
        ({"danceRoute": {}}, "danceRoute"),
    ],
)
def test_each_step_has_a_title(step: dict[str, Any], title: str) -> None:
    assert title_of(step) == title


# --- evidence, revisions, inputs


def test_evidence_grows_on_a_logarithmic_scale_and_says_what_it_needs() -> None:
    counted = {"requests": {"canary": 200, "stable": 0}, "bad": {"canary": 3, "stable": 0}}
    metric = {"name": "errors", "verdict": "Undecided", "evidence": 10, "failAt": 100, "needRequests": 900, **counted}
    (one,) = evidence_of((metric,))
    assert one.share == pytest.approx(0.5)
    assert (one.canary, one.stable, one.needs) == ("3 of 200 (1.50%)", "no requests", "about 900 more requests")
    (value,) = evidence_of(({"name": "memory", "verdict": "Pass", "value": 3.5, "max": 4},))
    assert (value.share, value.canary, value.bounds) == (None, "3.5", "max 4")
    (group,) = evidence_of(({"name": "group-accuracy", "verdict": "Undecided", "needLabels": 24, "needGroup": "f"},))
    assert group.needs == "about 24 more labels of f"


def test_revisions_have_what_is_known_of_them() -> None:
    info = series_of(
        b'# TYPE modeldeploy_model_info gauge\nmodeldeploy_model_info{version="8",sha256="cd",uri="s3://m/8"} 1\n'
    )
    found = revisions_of(rollout(), body(canaryRevision="6f8d"), [], [("6f8d", info)])
    assert [(one.name, one.role, one.version, one.digest) for one in found] == [
        ("5c1a", "stable", "7", "ab"),
        ("6f8d", "canary", "8", "cd"),
        ("4b0f", "earlier", "6", ""),
    ]
    assert not any(one.can_undo for one in found), "during a rollout one aborts"
    rest = revisions_of(Rollout.from_body(body()), body(), [], [])
    assert [one.name for one in rest if one.can_undo] == ["4b0f"]


METRICS = b"""\
# TYPE modeldeploy_requests counter
modeldeploy_requests_total{code="200"} 90
modeldeploy_requests_total{code="503"} 10
# TYPE modeldeploy_drifted gauge
modeldeploy_drifted{feature="age"} 1
modeldeploy_drifted{feature="hour"} 0
# TYPE modeldeploy_drift_score gauge
modeldeploy_drift_score{feature="age",method="psi"} 0.3
modeldeploy_drift_score{feature="age",method="ks"} 0.1
modeldeploy_drift_score{feature="hour",method="psi"} 0.05
# TYPE modeldeploy_feedback counter
modeldeploy_feedback_total{outcome="correct"} 30
modeldeploy_feedback_total{outcome="wrong"} 10
# TYPE modeldeploy_quality gauge
modeldeploy_quality{metric="accuracy"} 0.75
"""


def test_what_pods_say_is_counted() -> None:
    series = series_of(METRICS)
    assert counters_of(series) == (100, 10)
    assert drifted_of(series) == ["age"]
    with pytest.raises(ValueError, match="not"):
        series_of(b"<html>{not metrics</html>")


def test_drift_is_that_of_the_worst_pod_and_quality_that_of_all() -> None:
    other = series_of(METRICS.replace(b"} 0.05", b"} 0.4").replace(b"} 0.75", b"} 0.25"))
    answers = [("5c1a", series_of(METRICS)), ("5c1a", other)]
    drift = drift_of(answers, threshold=0.2)
    assert [(one.feature, one.psi, one.is_drifted) for one in drift] == [("hour", 0.4, True), ("age", 0.3, True)]
    assert drift[0].share == 1.0
    (quality,) = quality_of(answers)
    assert (quality.labels, quality.values) == (80, (("accuracy", 0.5),))
    assert quality_of([("5c1a", [])]) == []


def test_what_a_revision_looks_at_is_ordered_by_revision() -> None:
    metric = b"# TYPE modeldeploy_feature_importance gauge\n" + b"".join(
        b'modeldeploy_feature_importance{feature="%s"} %s\n' % pair for pair in ((b"age", b"1"), (b"hour", b"4"))
    )
    found = importance_of([("5c1a", series_of(metric)), ("5c1a", series_of(metric)), ("77b2", [])])
    assert [(one.revision, one.feature, one.value, one.share) for one in found] == [
        ("5c1a", "hour", 4, 1),
        ("5c1a", "age", 1, 0.25),
    ]


# --- the manifest


def applied(live: dict[str, Any], was: dict[str, Any] | None) -> dict[str, Any]:
    note = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"spec": was})} if was else {}
    return {
        "apiVersion": "modeldeploy.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "fraud", "uid": "1", "annotations": {**note, "owner": "me"}},
        "spec": live,
        "status": {"phase": "Healthy"},
    }


MODEL = {"storageUri": "s3://m/7"}


@pytest.mark.parametrize(
    ("live", "was", "paths"),
    [
        pytest.param({"model": MODEL}, {"model": MODEL}, [], id="equal"),
        pytest.param({"model": {**MODEL, "format": "auto"}, "paused": False}, {"model": MODEL}, [], id="defaults"),
        pytest.param({"model": MODEL, "paused": True}, {"model": MODEL}, ["spec.paused"], id="a field that was set"),
        pytest.param({"model": {"storageUri": "s3://m/8"}}, {"model": MODEL}, ["spec.model.storageUri"], id="changed"),
        pytest.param({"model": MODEL}, {"model": MODEL, "replicas": 3}, ["spec.replicas"], id="removed"),
    ],
)
def test_what_differs_from_what_was_applied(live: dict[str, Any], was: dict[str, Any], paths: list[str]) -> None:
    found = differences_of(applied(live, was), schema())
    assert found is not None
    assert [one.path for one in found] == paths


def test_without_a_note_it_is_not_known_what_was_applied() -> None:
    assert differences_of(applied({"model": MODEL}, None), schema()) is None


def test_the_manifest_is_what_a_person_would_apply() -> None:
    shown = manifest_of(applied({"model": MODEL}, {"model": MODEL}))
    assert "storageUri: s3://m/7" in shown
    assert "owner: me" in shown
    for left_out in ("uid", "last-applied", "status"):
        assert left_out not in shown


# --- actions


def verbs(given: Rollout) -> list[str]:
    return [one.verb for one in actions_of(given)]


@pytest.mark.parametrize(
    ("given", "offered"),
    [
        pytest.param(rollout(), ["promote", "promote-full", "abort", "pause"], id="a pause"),
        pytest.param(rollout(phase="Progressing"), ["promote-full", "abort", "pause"], id="a step that runs"),
        pytest.param(rollout(spec={"paused": True}), ["resume", "abort"], id="a rollout that is held"),
        pytest.param(rollout(phase="RollingBack"), ["pause"], id="one that goes back"),
        pytest.param(Rollout.from_body(body(phase="Healthy")), ["undo", "refresh"], id="at rest"),
        pytest.param(
            Rollout.from_body(body(phase="Degraded", abortedRevision="6f8d")),
            ["retry", "undo", "refresh"],
            id="aborted",
        ),
        pytest.param(Rollout.from_body({"metadata": {"name": "new"}}), [], id="a model nobody has looked at yet"),
    ],
)
def test_only_what_makes_sense_is_offered(given: Rollout, offered: list[str]) -> None:
    assert verbs(given) == offered


def test_a_confirmation_says_what_will_happen() -> None:
    promote, full, abort, _ = actions_of(rollout())
    assert promote.consequence == "The pause ends. The rollout goes on with step 4 of 4: send 50 % of the traffic."
    assert "6f8d takes all the traffic, and 5c1a leaves" in full.consequence
    assert "5c1a keeps all the traffic" in abort.consequence


@pytest.mark.parametrize("verb", VERBS)
def test_each_action_is_a_patch_of_the_command_line(verb: str) -> None:
    aborted = Rollout.from_body(body(abortedRevision="6f8d"))
    given = {"retry": aborted, "undo": aborted, "refresh": aborted}.get(verb, rollout())
    patch = patch_of(verb, given, state=state_of(given), revision="", kept=None, now=NOON)
    if verb in ("pause", "resume"):
        assert patch == {"spec": {"paused": verb == "pause"}}
    else:
        assert list(patch["metadata"]["annotations"]) == [f"modeldeploy.dev/{verb}"]


def test_what_has_moved_on_is_not_acted_on() -> None:
    with pytest.raises(Moved, match="fraud has changed since: it is Paused now"):
        patch_of("promote", rollout(2), state=state_of(rollout(1)), revision="", kept=None, now=NOON)
    with pytest.raises(Refused, match="known are: promote"):
        patch_of("dance", rollout(), state="", revision="", kept=None, now=NOON)


# --- the form

ROW = {
    "type": "object",
    "required": ["age", "country", "tags"],
    "properties": {
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "score": {"anyOf": [{"type": "number"}, {"type": "null"}], "examples": [0.5]},
        "country": {"type": "string", "enum": ["DE", "FR"]},
        "is_new": {"type": "boolean"},
        "tags": {"type": "array"},
    },
}
EXAMPLE = {"instances": [{"age": 40, "country": "FR", "is_new": True, "tags": ["a"]}]}
DOCUMENT = {
    "paths": {
        "/predict": {
            "post": {
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/Request"},
                            "examples": {"list": {"value": {"instances": [[1]]}}, "row": {"value": EXAMPLE}},
                        }
                    }
                }
            }
        }
    },
    "components": {
        "schemas": {
            "Request": {"properties": {"instances": {"items": {"anyOf": [{"$ref": "#/components/schemas/Row"}]}}}},
            "Row": ROW,
        }
    },
}


def test_the_form_is_made_of_the_document() -> None:
    form = form_of(DOCUMENT)
    assert [(one.name, one.kind, one.value) for one in form.fields] == [
        ("age", "integer", "40"),
        ("score", "number", "0.5"),
        ("country", "choice", "FR"),
        ("is_new", "boolean", "true"),
        ("tags", "json", '["a"]'),
    ]
    assert form.fields[0].hint == "0 to 130"
    assert json.loads(form.example) == EXAMPLE


def test_the_form_becomes_a_request() -> None:
    values = {"age": "41", "score": "", "country": "DE", "is_new": "false", "tags": "[]"}
    row = {"age": 41, "country": "DE", "is_new": False, "tags": []}
    assert body_of(form_of(DOCUMENT), values) == {"instances": [row]}


@pytest.mark.parametrize(("name", "value"), [("age", "4.5"), ("is_new", "perhaps"), ("tags", "[")])
def test_a_value_that_does_not_fit_is_named(name: str, value: str) -> None:
    with pytest.raises(BadValue, match=f"{name}: .* is no"):
        body_of(form_of(DOCUMENT), {"age": "1", "country": "DE", "is_new": "true", "tags": "[]", name: value})


def test_a_request_of_ones_own_has_to_be_an_object() -> None:
    assert body_from_json('{"instances": []}') == {"instances": []}
    for text in ("[1]", "{"):
        with pytest.raises(BadValue, match="JSON"):
            body_from_json(text)


@pytest.mark.parametrize("document", [{}, {"paths": []}, {"paths": {"/predict": {"post": None}}}])
def test_a_document_without_a_prediction_has_no_form(document: Any) -> None:
    with pytest.raises(NoForm, match="no POST /predict"):
        form_of(document)


def test_a_document_of_any_shape_gives_a_form_or_says_why_not() -> None:
    content = DOCUMENT["paths"]["/predict"]["post"]["requestBody"]["content"]  # type: ignore[index]
    bare = {**content["application/json"], "schema": {"$ref": "#/components/schemas/Gone"}}
    document = {"paths": {"/predict": {"post": {"requestBody": {"content": {"application/json": bare}}}}}}
    assert form_of(document).fields == ()


# --- notices


@pytest.mark.parametrize(
    ("code", "served", "said"),
    [
        pytest.param(404, [], "The cluster has no ModelDeployments. Install", id="no definition"),
        pytest.param(404, ["v1"], "serves ModelDeployments as v1, and this modeldeploy reads v1alpha1", id="newer"),
        pytest.param(403, [], "you are not allowed to read", id="no right"),
        pytest.param(500, [], "No model can be shown: it is broken.", id="anything else"),
    ],
)
def test_why_nothing_can_be_read_is_a_sentence(code: int, served: list[str], said: str) -> None:
    told = notices.refused("models", KubeError(code, "", "it is broken"), served=served, install="helm install")
    assert said in told
