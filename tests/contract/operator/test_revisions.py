"""Names of revisions hold for ever: one that changes restarts every model of every cluster at the next upgrade.

`revisions.json` was written by the first release. Rows may be added; a row may never change.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from model_operator.api.identity import FIELDS, asked_for, canonical
from model_operator.api.resource import ModelDeployment
from model_operator.api.revision import revision_of

HERE = Path(__file__).parent
ROWS: list[dict[str, Any]] = json.loads((HERE / "revisions.json").read_text())
DEFINITION = yaml.safe_load((HERE.parents[2] / "crds/modeldeployments.yaml").read_text())
SPEC = DEFINITION["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def test_every_row_has_its_revision() -> None:
    found = {row["id"]: target_of(row) for row in ROWS}
    assert found == {row["id"]: row["revision"] for row in ROWS}


def target_of(row: Mapping[str, Any]) -> str:
    metadata = {"name": "m", "namespace": "n", "uid": "u", "generation": 1, "resourceVersion": "1"}
    metadata["annotations"] = row.get("annotations", {})
    body = {"metadata": metadata, "spec": row["spec"], "status": row.get("status", {})}
    return ModelDeployment.from_body(body).target


@pytest.mark.parametrize("path", FIELDS)
def test_the_definition_and_the_hash_agree_on_fields_and_defaults(path: str) -> None:
    """A new field belongs into `Fields.later`: there its default makes no revision."""
    schema = SPEC
    for part in path.split("."):
        schema = schema["properties"][part]
    schema = schema.get("items", schema)
    fields = {**FIELDS[path].first, **FIELDS[path].later}
    assert fields == {name: field.get("default") for name, field in schema["properties"].items()}


def test_a_field_of_a_newer_definition_is_not_part_of_a_revision_at_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = {"model": {"storageUri": "s3://m/1"}, "server": {}}
    before = revision_of(source)
    newer = FIELDS["server"]._replace(later={"priority": 5, "mode": None})
    monkeypatch.setattr("model_operator.api.identity.FIELDS", {**FIELDS, "server": newer})
    assert revision_of({**source, "server": {"priority": 5}}) == before
    assert revision_of({**source, "server": {"priority": 6}}) != before
    assert revision_of({**source, "server": {"mode": "x"}}) != before


QUANTITIES = st.sampled_from([("1", "1000m"), ("500m", "0.5"), ("1Gi", "1024Mi"), ("1500M", "1.5G"), ("2", 2)])
DEFAULTS = [
    (path, name, default)
    for path, fields in FIELDS.items()
    for name, default in fields.first.items()
    if default is not None and path in ("model", "server", "server.batching")
]


@given(st.lists(st.sampled_from(DEFAULTS)), QUANTITIES, st.randoms())
def test_how_a_spec_is_written_is_no_part_of_it(
    written: list[tuple[str, str, Any]], spelt: tuple[Any, Any], random: Any
) -> None:
    plain: dict[str, Any] = {"model": {"storageUri": "s3://m/1"}, "server": {"resources": {"limits": {"x": spelt[0]}}}}
    wordy: dict[str, Any] = {"model": {"storageUri": "s3://m/1"}, "server": {"resources": {"limits": {"x": spelt[1]}}}}
    for path, name, default in written:
        at = wordy
        for part in path.split("."):
            at = at.setdefault(part, {})
        at.setdefault(name, default)
    keys = list(wordy["server"])
    random.shuffle(keys)
    wordy["server"] = {key: wordy["server"][key] for key in keys}
    assert revision_of(wordy) == revision_of(plain)
    assert canonical(wordy) == canonical(plain)
    assert canonical(asked_for(wordy)) == canonical(plain)


def test_an_estimate_of_quality_is_a_new_revision_only_where_it_is_asked_for() -> None:

    def target(**monitoring: Any) -> str:
        return target_of({"spec": {"model": {"storageUri": "s3://m/1"}, "monitoring": {"alerts": True, **monitoring}}})

    assert target(estimatedQuality=False) == target()
    assert target(estimatedQuality=True) != target()


@pytest.mark.parametrize(
    ("change", "is_new"),
    [
        pytest.param({"image": "vllm:2"}, True, id="another image"),
        pytest.param({"args": ["--quick"]}, True, id="other arguments"),
        pytest.param({"protocol": "http", "env": [], "resources": {}}, False, id="the defaults"),
        pytest.param({"resources": {"limits": {"cpu": "1000m"}}}, True, id="resources"),
    ],
)
def test_a_server_of_ones_own_is_a_new_revision_where_its_pods_differ(change: dict[str, Any], is_new: bool) -> None:
    plain = {"image": "vllm:1", "port": 9000, "readinessPath": "/healthz"}
    before, after = ({"model": {}, "server": {"container": one}} for one in (plain, {**plain, **change}))
    assert (revision_of(before) != revision_of(after)) is is_new
