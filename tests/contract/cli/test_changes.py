"""`modeldeploy diff` and the operator agree on what is a new revision: the one compares, the other hashes."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from model_operator.api.resource import ModelDeployment
from model_sandbox.apiserver.defaults import apply_defaults
from model_sandbox.apiserver.schema import decode, from_openapi
from modeldeploy.changes.pods import changed_for_pods
from modeldeploy.lint import read_definitions

ROOT = Path(__file__).resolve().parents[3]
ROWS = json.loads((ROOT / "tests/contract/operator/revisions.json").read_text())
NODE = from_openapi(dict(read_definitions()["ModelDeployment"].schema))
#: Rows whose name has more in it than the spec.
SPECS = {row["id"]: row["spec"] for row in ROWS if not {"annotations", "status"} & row.keys()}


def stored(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec as the API server returns it."""
    found: dict[str, Any] = apply_defaults(NODE, decode(NODE, {"spec": spec}, []))["spec"]
    return found


def revision_of(spec: dict[str, Any]) -> str:
    metadata = {"name": "m", "namespace": "n", "uid": "u", "generation": 1, "resourceVersion": "1"}
    return ModelDeployment.from_body({"metadata": metadata, "spec": spec}).target


def test_two_specs_are_one_revision_for_both_or_for_none() -> None:
    revisions = {name: revision_of(stored(spec)) for name, spec in SPECS.items()}
    wrong = [
        (one, other)
        for one, other in itertools.combinations(SPECS, 2)
        if (revisions[one] == revisions[other]) != (not changed_for_pods(stored(SPECS[one]), stored(SPECS[other])))
    ]
    assert not wrong


BASE: dict[str, Any] = {"model": {"storageUri": "s3://m/1", "pollInterval": "60s"}, "server": {}}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"replicas": 3}, id="replicas"),
        pytest.param({"paused": True}, id="paused"),
        pytest.param({"monitoring": {"alerts": True}}, id="alerts"),
        pytest.param({"model": {"storageUri": "s3://m/1", "pollInterval": "1m"}}, id="a duration in other words"),
        pytest.param({"model": {"storageUri": "s3://m/1", "pollInterval": "2m"}}, id="another duration"),
        pytest.param({"server": {"workers": 1}}, id="a default"),
        pytest.param({"server": {"env": []}}, id="no variables"),
        pytest.param({"server": {"resources": {"limits": {}}}}, id="no resources"),
        pytest.param({"server": {"resources": {"limits": {"cpu": "1"}}}}, id="resources"),
        pytest.param(
            {"server": {"podTemplate": {"spec": {"containers": [{"name": "server"}]}}}}, id="an empty overlay"
        ),
        pytest.param({"server": {"podTemplate": {"spec": {"tolerations": []}}}}, id="an overlay that empties a list"),
        pytest.param({"server": {"podTemplate": {"spec": {"nodeSelector": {}}}}}, id="an overlay without a field"),
        pytest.param({"server": {"podTemplate": {"spec": {"priority": None}}}}, id="an overlay that removes a field"),
        pytest.param({"monitoring": {"dataQuality": {}}}, id="data quality"),
        pytest.param({"monitoring": {"drift": {}}}, id="drift"),
        pytest.param({"monitoring": {"slices": []}}, id="no slices"),
        pytest.param({"monitoring": {"slices": [{"name": "a"}]}}, id="slices"),
        pytest.param({"monitoring": {"estimatedQuality": False}}, id="quality is not estimated"),
        pytest.param({"monitoring": {"estimatedQuality": True}}, id="quality is estimated"),
        pytest.param({"model": {"storageUri": "s3://m/2"}}, id="another model"),
        pytest.param({"server": {"auth": {"secretName": "a", "protect": ["docs", "metrics"]}}}, id="keys"),
    ],
)
def test_one_change_is_judged_alike(change: dict[str, Any]) -> None:
    before, after = stored(BASE), stored({**BASE, **change})
    assert (revision_of(before) == revision_of(after)) is (not changed_for_pods(before, after))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"resources": {"limits": {"cpu": "1"}}}, {"resources": {"limits": {"cpu": "1000m"}}}, id="cpu"),
        pytest.param({"resources": {"limits": {"cpu": "1"}}}, {"resources": {"limits": {"cpu": "2"}}}, id="more cpu"),
        pytest.param(
            {"auth": {"secretName": "a", "protect": ["docs", "metrics"]}},
            {"auth": {"secretName": "a", "protect": ["metrics", "docs"]}},
            id="the order of a set",
        ),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
            id="the order of variables",
        ),
        pytest.param(
            {"podTemplate": {"spec": {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}]}}},
            {"podTemplate": {"spec": {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1024Mi"}}]}}},
            id="the size of a volume",
        ),
    ],
)
def test_two_spellings_are_judged_alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    before, after = stored({**BASE, "server": one}), stored({**BASE, "server": other})
    assert (revision_of(before) == revision_of(after)) is (not changed_for_pods(before, after))
