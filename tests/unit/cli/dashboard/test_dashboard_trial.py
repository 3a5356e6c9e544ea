"""A model that is tried: the header of its API key, why it refuses, the bars of an explanation, quality by group."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from modeldeploy.dashboard import pages
from modeldeploy.dashboard.exposition import series_of
from modeldeploy.dashboard.trying import KeyNeeded, Trial
from modeldeploy.dashboard.view.explanation import explained_of
from modeldeploy.dashboard.view.model import model_view
from modeldeploy.dashboard.view.prediction import BadValue, NoForm, form_of
from modeldeploy.dashboard.view.rows import row_of
from modeldeploy.dashboard.view.slices import evaluated_of, slices_of
from modeldeploy.dashboard.view.summary import Summary
from modeldeploy.groups import judged_groups
from modeldeploy.kube import KubeError
from modeldeploy.kube.transport import Relayed

HEADER = {"type": "apiKey", "in": "header", "name": "x-api-key"}
CONTENT: dict[str, Any] = {"requestBody": {"content": {"application/json": {}}}}


def document(scheme: dict[str, str] | None = None, **paths: Any) -> dict[str, Any]:
    asks: dict[str, Any] = {"security": [{"bearer": []}, {"key": []}]} if scheme else {}
    found = {"paths": {"/predict": {"post": {**CONTENT, **asks}}, **paths}}
    schemes = {"bearer": {"type": "http", "scheme": "bearer"}, "key": scheme}
    return {**found, "components": {"securitySchemes": schemes}} if scheme else found


class Models:
    """An API server whose proxy leads to one model, which takes the key `right` where it asks for one."""

    def __init__(self, *, protects: tuple[str, ...] = (), found: dict[str, Any] | None = None) -> None:
        self.protects, self.found = protects, found or document(HEADER)
        self.sent: list[tuple[str, dict[str, str]]] = []

    def relay(self, _resource: Any, _name: str, path: str, _namespace: str, **given: Any) -> Relayed:
        self.sent.append((path, given["headers"]))
        if path in self.protects and given["headers"].get("x-api-key") != "right":
            return Relayed(401, b'{"error": "no"}')
        if path == "/openapi.json":
            return Relayed(200, json.dumps(self.found).encode())
        if path == "/explain":
            return Relayed(404, b'{"error": "explanations are off: set MODEL_SERVER_EXPLANATIONS=true"}')
        return Relayed(200, b'{"predictions": [1]}')


def trial(models: Any, key: str = "") -> Trial:
    return Trial(kube=models, namespace="risk", name="fraud", scheme="http", api_key=key)


@pytest.mark.parametrize(
    ("scheme", "header"),
    [
        pytest.param(HEADER, "x-api-key", id="a header"),
        pytest.param({**HEADER, "name": "X-Own-Key"}, "X-Own-Key", id="another header"),
        pytest.param(None, "", id="no key"),
        pytest.param({**HEADER, "in": "query"}, "", id="an address lands in logs"),
        pytest.param({**HEADER, "name": "Authorization"}, "", id="the API server's own credentials"),
        pytest.param({**HEADER, "name": "X-Remote-User"}, "", id="what a proxy believes"),
    ],
)
def test_the_key_goes_into_the_header_of_the_document(scheme: dict[str, str] | None, header: str) -> None:
    assert form_of(document(scheme)).key_header == header


def test_a_key_is_sent_to_the_model_and_is_in_no_text() -> None:
    models = Models(protects=("/predict",))
    asked = trial(models, " right ")
    assert asked.predict(lambda _: {}) == (200, {"predictions": [1]})
    assert [headers for _, headers in models.sent] == [{"x-api-key": "right"}] * 2
    assert "right" not in repr(asked)


@pytest.mark.parametrize(
    ("key", "told"),
    [("", "The model needs an API key."), ("wrong", "The model does not accept this API key.")],
)
@pytest.mark.parametrize("protects", [("/predict",), ("/openapi.json", "/predict")], ids=["predictions", "all"])
def test_a_wrong_key_is_a_sentence(protects: tuple[str, ...], key: str, told: str) -> None:
    with pytest.raises(KeyNeeded) as raised:
        trial(Models(protects=protects), key).predict(lambda _: {})
    assert str(raised.value) == told


def test_a_key_that_no_header_takes_is_a_sentence() -> None:
    for key in ("schlüssel", "a\nb"):
        with pytest.raises(BadValue, match="characters that no header takes"):
            trial(Models(), key).predict(lambda _: {})


def test_a_model_that_is_not_explained_says_why() -> None:
    form, why = trial(Models(), "right").form()
    assert (form.is_explained, why) == (False, "explanations are off: set MODEL_SERVER_EXPLANATIONS=true")
    assert trial(Models(protects=("/explain",))).form()[1] == "", "without a key it says nothing"
    explained, _ = trial(Models(found=document(**{"/explain": {}}))).form()
    assert explained.is_explained


def test_who_may_not_ask_is_told_which_right_is_missing() -> None:
    class Refusing:
        def relay(self, *_: Any, **__: Any) -> Relayed:
            raise KubeError(403, "Forbidden", "no")

    with pytest.raises(KubeError, match="needs the right to get services/proxy in risk"):
        trial(Refusing()).form()


# --- explanations

ROW = {"base_value": 0.4, "contributions": {"age": -0.3, "spend": 0.1}, "output": 0.2}
ANSWER = {"explanations": [ROW, ROW], "method": "permutation sampling", "scale": "raw score", "classes": ["<b>"]}


def test_contributions_are_bars_from_the_middle_the_largest_first() -> None:
    (output,) = explained_of(ANSWER).outputs
    assert [(one.feature, one.begin, pytest.approx(one.width)) for one in output.contributions] == [
        ("age", pytest.approx(0), 50),
        ("spend", 50, pytest.approx(100 / 6)),
    ]
    assert (output.base, output.value, output.total) == pytest.approx((0.4, 0.2, -0.2))
    page = pages.explanation_part(explained_of(ANSWER))
    assert "Base value <b>0.4</b>, contributions <b>-0.2</b>, together <b>0.2</b>" in page
    assert "raw score of class &lt;b&gt;. Method: permutation sampling. The first of 2 rows." in page


def test_an_estimate_has_its_standard_error() -> None:
    errors = {"standard_errors": {"age": 0.1, "spend": 0.0}}
    explained = explained_of({**ANSWER, "explanations": [{**ROW, **errors}]})
    age = explained.outputs[0].contributions[0]
    assert (age.error, age.low, age.high) == pytest.approx((0.1, 0, 25))
    page = pages.explanation_part(explained)
    assert '-0.3 <span class="soft">± 0.1</span>' in page
    assert "an estimate; ± is its standard error" in page


def test_of_several_outputs_the_largest_is_open_and_of_many_features_the_small_ones_are_added_up() -> None:
    contributions = {f"f{number:02}": [0.0, number / 100] for number in range(25)}
    row = {"base_value": [0.9, 0.1], "contributions": contributions, "output": [0.1, 0.9]}
    explained = explained_of({"explanations": [row], "classes": ["no", "yes"]})
    assert [one.label for one in explained.outputs] == ["yes", "no"]
    first = explained.outputs[0]
    assert (len(first.contributions), first.left_out, first.rest) == pytest.approx((20, 5, 0.1))
    assert first.total == pytest.approx(3)
    assert pages.explanation_part(explained).count("<details open>") == 1


@pytest.mark.parametrize("answer", [{}, {"explanations": []}, {"explanations": [{}]}, {"explanations": [[1]]}])
def test_an_answer_of_another_shape_is_a_sentence(answer: dict[str, Any]) -> None:
    with pytest.raises(NoForm, match="another shape"):
        explained_of(answer)


# --- groups


def counted(revision: str, group: str, right: int, wrong: int) -> tuple[str, Any]:
    name = f'slice="sex",group="{group}",label="positive"'
    return revision, series_of(
        f"# TYPE modeldeploy_slice_answers counter\n"
        f'modeldeploy_slice_answers_total{{{name},prediction="positive"}} {right}\n'
        f'modeldeploy_slice_answers_total{{{name},prediction="negative"}} {wrong}\n'
        f"# TYPE modeldeploy_slice_predictions counter\n"
        f'modeldeploy_slice_predictions_total{{slice="sex",group="{group}",prediction="positive"}} {right}\n'
        f'modeldeploy_slice_predictions_total{{slice="sex",group="{group}",prediction="negative"}} {wrong}\n'.encode()
    )


def test_groups_have_their_revisions_side_by_side_and_the_worst_first() -> None:
    pods = [counted("5c1a", "m", 90, 10), counted("5c1a", "f", 45, 5), counted("5c1a", "f", 45, 5)]
    (table,) = slices_of([*pods, counted("6f8d", "f", 3, 7), counted("6f8d", "m", 50, 0)])
    assert [(row.accuracy.group, row.revision, row.accuracy.count, row.accuracy.value) for row in table.rows] == [
        ("f", "5c1a", 100, 0.9),
        ("f", "6f8d", 10, 0.3),
        ("m", "5c1a", 100, 0.9),
        ("m", "6f8d", 50, 1.0),
    ]
    few = table.rows[1]
    assert few.selected == pytest.approx(0.3)
    assert (few.accuracy.low, few.accuracy.high) == pytest.approx((0.1078, 0.6032), abs=1e-4)
    assert few.accuracy.lacks == 320, "of 330 for 3 of its own 10 and, as weighty as 20, 53 of 60 of all"
    assert slices_of([("5c1a", [])]) == []


def test_answers_of_many_classes_are_right_or_wrong() -> None:
    name = 'modeldeploy_slice_answers_total{slice="s",group="g",label="any",prediction='
    text = f'# TYPE modeldeploy_slice_answers counter\n{name}"right"}} 6\n{name}"wrong"}} 2\n'
    (table,) = slices_of([("5c1a", series_of(text.encode()))])
    assert (table.rows[0].accuracy.value, table.rows[0].selected) == (0.75, None)


def test_an_evaluation_has_its_own_interval_and_says_what_a_group_lacks() -> None:
    accuracy = {"rows": 10, "accuracy": 0.8, "low": 0.5, "high": 0.9, "selection-rate": 0.2}
    one, other = evaluated_of({"groups": {"sex": {"f": accuracy}, "age": {"old": {"rows": 4, "mae": 2.0}}}})
    assert (one.interval, one.lacks, one.values) == ((0.5, 0.9), 236, [("accuracy", 0.8), ("selection-rate", 0.2)])
    assert (other.interval, other.lacks, other.values) == (None, 0, [("mae", 2.0)])


def test_the_groups_of_a_judged_metric_have_stable_where_it_is_compared() -> None:
    groups = {
        "m": {"value": 0.9, "answers": 100},
        "f": {"value": 0.5, "answers": 4, "stableValue": 1, "stableAnswers": 3},
    }
    first, second = judged_groups({"groups": groups})
    assert (first.canary.group, first.canary.lacks, first.stable and first.stable.count) == ("f", 223, 3)
    assert (second.canary.group, second.stable) == ("m", None)
    assert judged_groups({"name": "errors"}) == []


def test_the_page_has_the_groups_of_feedback_and_of_the_evaluation() -> None:
    accuracy = {"rows": 10, "accuracy": 0.8, "low": 0.5, "high": 0.9}
    groups = {"sex": {"<i>": accuracy}, "age": {"old": {"rows": 4, "mae": 2.0}}}
    body = {
        "metadata": {"name": "fraud", "namespace": "risk"},
        "spec": {},
        "status": {"stableRevision": "5c1a", "evaluation": {"phase": "Passed", "groups": groups}},
    }
    row = row_of(Summary.from_body(body), [], None)
    answers = [counted("5c1a", "f", 45, 5)]
    view = model_view(body, row, [], [], answers, {}, now=datetime(2026, 5, 1, tzinfo=UTC))
    part = pages.model_parts(view, can_act=True)["groups"]
    assert "Feedback by <code>sex</code>" in part
    assert 'aria-label="Accuracy of &lt;i&gt;: 0.500 to 0.900"' in part
    assert '<rect class="mark" x="79.50"' in part, "the mark is at the accuracy"
    assert "about 236 more" in part
    assert "mae <b>2.000</b>" in part
