"""Reading `spec`: what cannot be understood is refused by its path, what is not known is reported."""

from datetime import timedelta
from typing import Any

import pytest

from model_operator.api.resource import ModelDeployment
from model_operator.api.steps import parse_step
from model_operator.api.strategy import Canary
from model_operator.errors import InvalidSpec

MODEL = {"storageUri": "s3://models/1"}
GATEWAY = {"parentRefs": [{"name": "public"}]}
METRIC = {"name": "errors", "max": 0.1}


def resource(**spec: Any) -> ModelDeployment:
    metadata = {"name": "m", "namespace": "n", "uid": "u", "generation": 1, "resourceVersion": "1"}
    return ModelDeployment.from_body({"metadata": metadata, "spec": {"model": MODEL, **spec}})


def canary(**fields: Any) -> dict[str, Any]:
    return {"strategy": {"canary": fields}}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param({"model": {}}, "spec.model.storageUri: the field is missing", id="missing"),
        pytest.param({"server": {"workers": "2"}}, "spec.server.workers: Expected `int`, got `str`", id="type"),
        pytest.param(
            {"server": {"requestTimeoutSeconds": "30s"}},
            "spec.server.requestTimeoutSeconds: '30s' is invalid; write a whole number of seconds",
            id="seconds",
        ),
        pytest.param(
            {"model": {**MODEL, "pollInterval": "soon"}},
            "spec.model.pollInterval: 'soon' is not a duration; write for example 30s, 5m or 1h30m",
            id="duration",
        ),
        pytest.param(
            {"model": {**MODEL, "pollInterval": 30}},
            "spec.model.pollInterval: 30 is invalid; write a duration such as 30s, 5m or 1h30m",
            id="a duration without a unit",
        ),
        pytest.param(
            canary(analysis={"metrics": [METRIC], "onInconclusive": "Stop"}),
            "spec.strategy.canary.analysis.onInconclusive: 'Stop' is unknown; write one of Pause, Promote, Abort",
            id="word",
        ),
        pytest.param(
            {"hooks": {"gates": [{"name": "g", "url": "http://g", "before": ["Start"]}]}},
            "spec.hooks.gates[0].before[0]: 'Start' is unknown; write one of Step, Promotion",
            id="word in a list",
        ),
        pytest.param(
            canary(steps=[{"setWeight": 5}, {"setWeigth": 10}]),
            "spec.strategy.canary.steps[1] is not a known step; write exactly one of setWeight, pause, ",
            id="step",
        ),
        pytest.param(
            {"strategy": {"shadow": {}}},
            "spec.strategy: found shadow; write exactly one of rollingUpdate, canary, blueGreen, ",
            id="strategy",
        ),
        pytest.param(
            {"strategy": {"canary": {}, "blueGreen": {}}},
            "spec.strategy: found blueGreen, canary; write exactly one of",
            id="two strategies",
        ),
        pytest.param(
            canary(trafficRouting={"linkerd": {}}),
            "spec.strategy.canary.trafficRouting: write exactly one router, of gatewayAPI; Istio, Linkerd",
            id="another router, without which pods would split the traffic",
        ),
        pytest.param(
            {"hooks": {"retrain": {"url": "http://r", "quality": [{"name": "accuracy"}]}}},
            "spec.hooks.retrain.quality[0]: accuracy needs min and no other bound",
            id="a bound without a number",
        ),
        pytest.param(
            {"hooks": {"retrain": {"url": "http://r", "quality": [{"name": "log-loss", "min": 1}]}}},
            "spec.hooks.retrain.quality[0]: log-loss needs max and no other bound",
            id="a bound on the wrong side",
        ),
        pytest.param(
            canary(trafficRouting={"gatewayAPI": {**GATEWAY, "filters": [{"type": "URLRewrite"}]}}),
            "spec.strategy.canary.trafficRouting.gatewayAPI.filters[0]: a filter of type URLRewrite has the field",
            id="a filter without its field",
        ),
        pytest.param(
            canary(trafficRouting={"gatewayAPI": {**GATEWAY, "filters": [{"type": "CORS", "urlRewrite": {}}]}}),
            "spec.strategy.canary.trafficRouting.gatewayAPI.filters[0]: a filter of type CORS has the field",
            id="a filter with the field of another type",
        ),
    ],
)
def test_what_is_not_understood_is_named(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec) as raised:
        resource(**spec)
    assert str(raised.value).startswith(message)


def ab_test(stickiness: dict[str, str] | None, **changes: Any) -> dict[str, Any]:
    """An A/B test whose route changes headers of responses."""
    filters = [{"type": "ResponseHeaderModifier", "responseHeaderModifier": changes}]
    test = {
        "metric": "conversion",
        "minimumSampleSize": 100,
        "trafficRouting": {"gatewayAPI": {**GATEWAY, "filters": filters}},
    }
    return {"strategy": {"abTest": {**test, **({"stickiness": stickiness} if stickiness else {})}}}


def value_of(name: str) -> list[dict[str, str]]:
    return [{"name": name, "value": "a=b"}]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param(ab_test(None, set=value_of("set-cookie")), "set set-cookie", id="set: the cookie is replaced"),
        pytest.param(ab_test(None, remove=["Set-Cookie"]), "remove Set-Cookie", id="remove: the cookie is lost"),
        pytest.param(
            ab_test({"header": "X-Who"}, set=value_of("x-who")), "set x-who", id="set: the header is replaced"
        ),
        pytest.param(
            ab_test({"header": "X-Who"}, add=value_of("x-who")), "add x-who", id="add: a header with two values"
        ),
        pytest.param(ab_test({"header": "X-Who"}, remove=["x-who"]), "remove x-who", id="remove: the header is lost"),
    ],
)
def test_a_filter_does_not_change_what_identifies_the_users_of_an_ab_test(spec: dict[str, Any], message: str) -> None:
    verb = message.partition(" ")[0]
    path = (
        f"spec.strategy.abTest.trafficRouting.gatewayAPI.filters[0].responseHeaderModifier.{verb}: must not {message},"
    )
    with pytest.raises(InvalidSpec) as raised:
        resource(**spec)
    assert str(raised.value).startswith(path)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(ab_test(None, add=value_of("Set-Cookie")), id="one more cookie"),
        pytest.param(
            ab_test({"header": "x-who"}, set=value_of("Set-Cookie")), id="a cookie beside the header of a test"
        ),
        pytest.param(ab_test({"cookie": "x-who"}, remove=["x-who"]), id="a header that is called like the cookie"),
    ],
)
def test_a_filter_may_change_the_other_headers_of_an_ab_test(spec: dict[str, Any]) -> None:
    strategy = resource(**spec).spec.strategy
    assert isinstance(strategy, Canary)
    assert strategy.routing


def test_without_a_spec_it_says_what_to_write() -> None:
    with pytest.raises(InvalidSpec, match=r"spec: the field is missing; write at least spec\.model\.storageUri"):
        ModelDeployment.from_body({"metadata": {}})


def test_a_step_does_one_thing() -> None:
    with pytest.raises(InvalidSpec, match=r"steps\[0\] is 2 steps; write exactly one of setWeight, pause, analysis"):
        parse_step({"setWeight": 5, "pause": {}}, "steps[0]")
    with pytest.raises(InvalidSpec, match="headerValue of 'x': write exactly one of exact, regex or prefix"):
        parse_step({"setHeaderRoute": {"match": [{"headerName": "x", "headerValue": {"suffix": "a"}}]}}, "steps[0]")


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        pytest.param({}, (), id="none"),
        pytest.param({"priority": 5}, ("spec.priority",), id="of the spec"),
        pytest.param({"server": {"surprise": {}}}, ("spec.server.surprise",), id="of the server"),
        pytest.param({"model": {**MODEL, "cache": {"s3": "x"}}}, ("spec.model.cache.s3",), id="of an inner object"),
        pytest.param({"server": {"drift": {}}}, ("spec.server.drift",), id="a name that a value has elsewhere"),
        pytest.param(
            canary(surge=1, steps=[{"pause": {"until": "noon"}}]),
            ("spec.strategy.canary.steps[0].pause.until", "spec.strategy.canary.surge"),
            id="of a step",
        ),
        pytest.param(
            canary(trafficRouting={"gatewayAPI": {"parentRefs": [{"name": "a"}, {"name": "b", "weight": 1}]}}),
            ("spec.strategy.canary.trafficRouting.gatewayAPI.parentRefs[1].weight",),
            id="of an entry of a list",
        ),
        pytest.param(
            canary(trafficRouting={"gatewayAPI": GATEWAY, "retries": 3}),
            ("spec.strategy.canary.trafficRouting.retries",),
            id="beside a router that is known",
        ),
        pytest.param(
            {"server": {"podTemplate": {"spec": {"x": 1}}, "env": [{"name": "A", "new": 1}]}}, (), id="of a pod"
        ),
    ],
)
def test_unknown_fields_are_reported_by_path(spec: dict[str, Any], paths: tuple[str, ...]) -> None:
    assert resource(**spec).unknown_fields == paths


def test_an_unknown_field_is_no_part_of_a_revision() -> None:
    newer = {"model": {**MODEL, "encryption": "x"}, "server": {"surprise": 1}, "priority": 5}
    assert resource(**newer).target == resource().target


def test_equal_servers_and_strategies_are_one_value() -> None:
    one, other = (resource(server={"workers": 2}, **canary(maxSurge="25%")) for _ in range(2))
    assert one.spec.server is other.spec.server
    assert one.spec.strategy is other.spec.strategy


def test_what_is_not_written_has_its_default() -> None:
    spec = resource(strategy={"canary": {}}).spec
    assert (spec.server.max_batch_size, spec.server.request_timeout) == (32, timedelta(seconds=30))
    assert isinstance(spec.strategy, Canary)
    assert (spec.strategy.propagation, spec.strategy.routing) == (timedelta(0), None)
    assert spec.analysis.interval == timedelta(seconds=5)
