"""A status is read and written back as it was: one that differed would be a write for every model at an upgrade.

`statuses.json` was written by the release before structs read them. Rows may be added; a row may never change.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from model_operator.api.status import Phase, Status, status_from_body, status_to_body

HERE = Path(__file__).parent
ROWS: list[dict[str, Any]] = json.loads((HERE / "statuses.json").read_text())
DEFINITION = yaml.safe_load((HERE.parents[2] / "crds/modeldeployments.yaml").read_text())
STATUS = DEFINITION["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
#: Words of the first release, which are written beside today's.
FIRST_RELEASE = {"source.mark", "retraining.told"}


@pytest.mark.parametrize("body", ROWS, ids=[f"{i} {row['phase']}" for i, row in enumerate(ROWS)])
def test_a_status_is_written_as_it_was_read(body: dict[str, Any]) -> None:
    status = status_from_body(body)
    written = status_to_body(status)
    assert json.dumps(written, sort_keys=True) == json.dumps(body, sort_keys=True)
    assert status_from_body(written) == status


def test_of_an_empty_status_the_counts_and_the_phase_are_written() -> None:
    assert status_from_body({}) == Status()
    assert status_to_body(Status()) == {"observedGeneration": 0, "phase": "Pending", "replicas": 0, "readyReplicas": 0}


def test_the_words_of_the_first_release_are_read() -> None:
    moment = "2026-01-01T00:00:00.000000Z"
    asked = {"requestedAt": moment, "reason": "drift", "revision": "bcdfghjk"}
    first = {"source": {"uri": "s3://m", "mark": "etag"}, "retraining": {**asked, "told": True}}
    status = status_from_body(first)
    assert status.source is not None
    assert status.source.fingerprint == "etag"
    assert status.retraining is not None
    assert status.retraining.notified_at == status.retraining.requested_at
    unaccepted = status_from_body({"retraining": {**asked, "told": False}}).retraining
    assert unaccepted is not None
    assert unaccepted.notified_at is None


def test_clocks_survive_a_restart_exactly() -> None:
    for text in ("2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:00.999999Z", "2026-01-01T00:00:00.000000Z"):
        status = status_from_body({"progressedAt": text, "conditions": [_condition(text)]})
        assert status.progressed_at == datetime.fromisoformat(text)
        written = status_to_body(status)
        assert (written["progressedAt"], written["conditions"][0]["lastTransitionTime"]) == (text, text)


def _condition(moment: str) -> dict[str, Any]:
    return {"type": "Ready", "status": "True", "reason": "R", "message": "", "lastTransitionTime": moment}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param({"phase": "Dreaming"}, "$.phase", id="a phase of a newer operator"),
        pytest.param({"replicas": "3"}, "$.replicas", id="a text for a number"),
        pytest.param({"progressedAt": "2026-01-01T00:00:00"}, "$.progressedAt", id="a time without a zone"),
        pytest.param({"conditions": [{"type": "Ready"}]}, "$.conditions[0]", id="a condition without a status"),
    ],
)
def test_what_cannot_be_read_is_named(body: dict[str, Any], path: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=path.replace("$", r"\$").replace("[", r"\[")):
        status_from_body(body)


def test_the_definition_and_the_structs_have_the_same_fields() -> None:
    assert set(_struct_paths(Status)) == set(_schema_paths(STATUS)) - FIRST_RELEASE
    phases = STATUS["properties"]["phase"]["enum"]
    assert phases == [str(phase) for phase in Phase]


def _struct_paths(struct: type[msgspec.Struct], above: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        path = f"{above}{field.encode_name}"
        yield path
        for inner in _structs_in(field.type):
            yield from _struct_paths(inner, f"{path}.")


def _structs_in(type_: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        yield type_
    for inner in getattr(type_, "__args__", ()):
        yield from _structs_in(inner)


def _schema_paths(schema: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, field in schema["properties"].items():
        path = f"{above}{name}"
        yield path
        inner = field.get("items", field.get("additionalProperties", field))
        if "properties" in inner and path != "analysis":
            yield from _schema_paths(inner, f"{path}.")
