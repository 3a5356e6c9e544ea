"""Whether a live object still is what was applied."""

from typing import Any

import pytest

from model_operator.api.quantities import parse_quantity
from model_operator.manifests.drift import contains, has_drifted
from model_operator.rendering import EXCLUSIVELY_OWNED_FIELDS


@pytest.mark.parametrize(
    ("live", "wanted", "same"),
    [
        pytest.param({"a": 1, "default": 2}, {"a": 1}, True, id="defaults of the API server do not count"),
        pytest.param({"a": 2}, {"a": 1}, False, id="another value"),
        pytest.param({}, {"a": 1}, False, id="a lost field"),
        pytest.param(None, {}, True, id="an empty map is as good as none"),
        pytest.param({}, {"minReadySeconds": 0}, True, id="a zero is as good as none"),
        pytest.param({"minReadySeconds": 5}, {"minReadySeconds": 0}, False, id="five is not zero"),
        pytest.param({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1000m"}}, True, id="1000m is 1"),
        pytest.param({"limits": {"cpu": 2}}, {"limits": {"cpu": "1"}}, False, id="2 is not 1"),
        pytest.param(
            {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
            {"env": [{"name": "A", "value": "1"}]},
            True,
            id="named entries are found wherever they stand",
        ),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}]},
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            False,
            id="a named entry is missing",
        ),
        pytest.param(
            {"metrics": [{"type": "Resource", "resource": "cpu"}, {"type": "Resource", "resource": "memory"}]},
            {"metrics": [{"type": "Resource", "resource": "cpu"}, {"type": "Resource", "resource": "memory"}]},
            True,
            id="two metrics of one type are two",
        ),
        pytest.param(
            {"metrics": [{"type": "Resource", "resource": "cpu"}, {"type": "Resource", "resource": "cpu"}]},
            {"metrics": [{"type": "Resource", "resource": "cpu"}, {"type": "Resource", "resource": "memory"}]},
            False,
            id="the second metric of a type is another one",
        ),
        pytest.param({"args": ["a", "b"]}, {"args": ["a"]}, False, id="a plain list is compared whole"),
    ],
)
def test_contains(live: Any, wanted: Any, *, same: bool) -> None:
    assert contains(live, wanted) is same


@pytest.mark.parametrize(
    ("one", "other"), [("1", "1000m"), ("1Gi", "1024Mi"), ("2e3", "2k"), ("0.5", "500m"), ("1E", "1000P")]
)
def test_quantities_that_mean_the_same(one: str, other: str) -> None:
    assert parse_quantity(one) == parse_quantity(other)


def service(**selector: str) -> dict[str, Any]:
    return {"kind": "Service", "metadata": {"labels": {}}, "spec": {"selector": selector, "ports": [{"port": 80}]}}


def route(*backends: dict[str, Any], **more: Any) -> dict[str, Any]:
    rules = [{"backendRefs": list(backends), **more}]
    return {"kind": "HTTPRoute", "metadata": {"labels": {}}, "spec": {"parentRefs": [{"name": "gw"}], "rules": rules}}


OURS, OTHERS = {"name": "fraud-a", "weight": 100}, {"name": "other", "weight": 1000}


@pytest.mark.parametrize(
    ("wanted", "live"),
    [
        pytest.param(service(app="a"), service(app="a", extra="x"), id="a selector that nothing meets any more"),
        pytest.param(route(OURS), route(OURS, OTHERS), id="a backend more"),
        pytest.param(route(OURS), route(OURS, filters=[{"type": "RequestRedirect"}]), id="a filter more"),
        pytest.param(route(OURS), route({**OURS, "filters": [{"type": "URLRewrite"}]}), id="a backend's filter more"),
    ],
)
def test_what_somebody_added_to_who_gets_which_requests_is_a_drift(
    wanted: dict[str, Any], live: dict[str, Any]
) -> None:
    owned = EXCLUSIVELY_OWNED_FIELDS[wanted["kind"]]
    assert has_drifted(wanted, live, owned)
    assert not has_drifted(wanted, wanted, owned)


def test_what_somebody_added_elsewhere_is_none() -> None:
    live = service(app="a")
    live["spec"]["ports"] = [{"name": "http", "port": 80}, {"name": "debug", "port": 81}]
    wanted = service(app="a")
    wanted["spec"]["ports"] = [{"name": "http", "port": 80}]
    assert not has_drifted(wanted, live, EXCLUSIVELY_OWNED_FIELDS["Service"])


@pytest.mark.parametrize("part", ["labels", "annotations"])
def test_metadata_of_ours_that_is_lost_or_changed_is_a_drift(part: str) -> None:
    wanted, live = service(app="a"), service(app="a")
    wanted["metadata"][part] = {"example.com/team": "risk"}
    assert has_drifted(wanted, live)
    live["metadata"][part] = {"example.com/team": "fraud"}
    assert has_drifted(wanted, live)
    live["metadata"][part] = {"example.com/team": "risk", "of-somebody-else": "x"}
    assert not has_drifted(wanted, live)
