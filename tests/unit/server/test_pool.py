"""The decisions of a pool: who makes room, who is under suspicion, what a list of models may say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model_server.domain.explanations import Explanation, ExplanationKind
from model_server.domain.tensors import Inputs
from model_server.errors import SettingsInvalid
from model_server.pool.board import Board, make_board
from model_server.pool.catalog import Catalog, parse_models
from model_server.pool.eviction import UNKNOWN_BYTES, Resident, expected_bytes, make_room, retry_after
from model_server.pool.hosted import ShownExplainer
from model_server.pool.quarantine import PROBATION_ANSWERS, Record, Standing, after_answer, after_death, released
from model_server.pool.settings import read_pool_settings

MEGABYTE = 2**20


def resident(number: int, *, used_at: float, megabytes: int = 10, is_busy: bool = False) -> Resident:
    return Resident(number=number, bytes=megabytes * MEGABYTE, used_at=used_at, is_busy=is_busy)


@pytest.mark.parametrize(
    ("residents", "used", "needed", "evicted", "missing"),
    [
        pytest.param([resident(1, used_at=1)], 10, 10, (), 0, id="what fits moves nobody"),
        pytest.param([resident(1, used_at=1)], 90, 10, (), 0, id="the budget itself is allowed"),
        pytest.param(
            [resident(1, used_at=2), resident(2, used_at=1)], 95, 10, (2,), 0, id="the least recently used goes"
        ),
        pytest.param(
            [resident(1, used_at=3), resident(2, used_at=1), resident(3, used_at=2)],
            100,
            15,
            (2, 3),
            0,
            id="as many as needed",
        ),
        pytest.param(
            [resident(1, used_at=1, is_busy=True), resident(2, used_at=2)], 95, 10, (2,), 0, id="a busy model stays"
        ),
        pytest.param(
            [resident(1, used_at=1, is_busy=True)], 95, 10, (), 5, id="with busy models alone there is no room"
        ),
        pytest.param([resident(1, used_at=1)], 100, 30, (1,), 20, id="what is missing then is told"),
        pytest.param([], 20, 90, (), 10, id="nobody can go"),
    ],
)
def test_make_room(residents: list[Resident], used: int, needed: int, evicted: tuple[int, ...], missing: int) -> None:
    room = make_room(residents, used=used * MEGABYTE, needed=needed * MEGABYTE, budget=100 * MEGABYTE)
    assert room.evict == evicted
    assert room.missing == missing * MEGABYTE
    assert room.is_enough is (missing == 0)


def test_where_any_has_to_go_some_more_go_in_advance() -> None:
    residents = [resident(number, used_at=number) for number in range(1, 6)]
    sizes = {"needed": 10 * MEGABYTE, "budget": 100 * MEGABYTE, "spare": 0.15}
    assert make_room(residents, used=90 * MEGABYTE, **sizes).evict == ()
    room = make_room(residents, used=91 * MEGABYTE, **sizes)
    assert room.evict == (1, 2)
    assert room.is_enough
    busy = [resident(1, used_at=1), resident(2, used_at=2, is_busy=True)]
    assert make_room(busy, used=95 * MEGABYTE, **sizes).is_enough, "what is spare need not be there"


def test_a_model_is_expected_to_need_what_it_needed() -> None:
    assert expected_bytes(5, [resident(1, used_at=1)]) == 5


def test_an_unknown_model_is_expected_to_need_what_others_do() -> None:
    others = [
        resident(1, used_at=1, megabytes=10),
        resident(2, used_at=1, megabytes=20),
        resident(3, used_at=1, megabytes=0),
    ]
    assert expected_bytes(0, others) == 15 * MEGABYTE
    assert expected_bytes(0, []) == UNKNOWN_BYTES


def test_a_failed_load_is_tried_again_later_and_later() -> None:
    passing = [retry_after(count, is_permanent=False) for count in range(1, 10)]
    assert passing == sorted(passing)
    assert passing[0] == 1
    assert passing[-1] == 60
    assert retry_after(1, is_permanent=True) == 30


def test_who_computed_when_a_process_ended_is_a_suspect() -> None:
    record = after_death(Record(), is_alone=False, how="signal SIGSEGV")
    assert record.standing is Standing.SUSPECT
    assert record.reason == "its process ended by signal SIGSEGV"


def test_once_is_no_proof_even_alone() -> None:
    assert after_death(Record(), is_alone=True, how="signal SIGKILL").standing is Standing.SUSPECT


def test_a_suspect_whose_own_process_ends_is_put_aside() -> None:
    record = after_death(after_death(Record(), is_alone=False, how="exit code 3"), is_alone=True, how="exit code 3")
    assert record.standing is Standing.ASIDE
    assert record.reason == "it ended its process twice, the last time by exit code 3"


def test_a_suspect_is_not_blamed_for_what_another_may_have_done() -> None:
    suspect = after_death(Record(), is_alone=False, how="exit code 3")
    assert after_death(suspect, is_alone=False, how="exit code 3").standing is Standing.SUSPECT


def test_answers_clear_a_suspect() -> None:
    record = after_death(Record(), is_alone=False, how="exit code 3")
    for _ in range(PROBATION_ANSWERS - 1):
        record = after_answer(record)
    assert record.standing is Standing.SUSPECT
    assert after_answer(record) == Record()


def test_what_was_put_aside_is_tried_alone_when_somebody_asks() -> None:
    aside = Record(Standing.ASIDE, 2, 0, "it ended its process twice")
    assert after_answer(aside) == aside
    assert released(aside).standing is Standing.SUSPECT
    assert after_death(released(aside), is_alone=True, how="exit code 3").standing is Standing.ASIDE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(b"- a", "no field `models`", id="a list alone"),
        pytest.param(b"models: {", "neither JSON nor YAML", id="no YAML"),
        pytest.param(b"models: [{name: a}]", r"models\[0\] \(a\).*storageUri", id="no URI"),
        pytest.param(
            b"models: [{name: a/b, storageUri: 'file:///a'}]", r"models\[0\] \(a/b\)", id="a name with a slash"
        ),
        pytest.param(
            b"models: [{name: a, storageUri: u}, {name: a, storageUri: v}]", "'a' more than once", id="one name twice"
        ),
        pytest.param(b"models: [{name: a, storageUri: u, turbo: 1}]", "turbo", id="an unknown field"),
    ],
)
def test_a_wrong_list_is_refused_by_the_entry_at_fault(text: bytes, message: str) -> None:
    with pytest.raises(SettingsInvalid, match=message):
        parse_models(text)


def test_a_list_is_json_or_yaml() -> None:
    listed = {"models": [{"name": "a", "storageUri": "file:///a", "trusted": True}]}
    assert parse_models(json.dumps(listed).encode()) == parse_models(
        b"models: [{name: a, storageUri: 'file:///a', trusted: true}]"
    )


def test_a_list_that_becomes_wrong_leaves_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("models: [{name: wine, storageUri: 'file:///a'}]")
    catalog = Catalog(path)
    assert not catalog.refresh()
    path.write_text("models: [{name: wine}]")
    assert not catalog.refresh()
    assert "storageUri" in catalog.fault
    assert list(catalog.models) == ["wine"]
    path.write_text("models: []")
    assert catalog.refresh()
    assert catalog.fault == ""
    assert catalog.models == {}


def test_an_unknown_model_is_answered_with_names_that_are_close(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("models: [{name: wine-red, storageUri: u}, {name: beer, storageUri: u}]")
    assert Catalog(path).unknown("wine_red").hint == "Did you mean 'wine-red'?"
    assert "2 models, such as 'beer', 'wine-red'" in Catalog(path).unknown("tea").hint


def test_the_steps_of_an_explanation_are_on_the_board() -> None:
    board = Board(make_board())
    seen: list[set[int]] = []
    found = Explanation(base=np.zeros(1), contributions=np.zeros((1, 1, 1)), output=np.zeros((1, 1)))

    class Explainer:
        kind = ExplanationKind(method="none", scale="prediction")
        calls_model = False

        def steps(self, inputs: Inputs) -> Iterator[Explanation | None]:
            for result in (None, found):
                seen.append(board.numbers)
                yield result

        def reference_rows(self, count: int) -> None:
            return None

    steps = ShownExplainer(Explainer(), 7, board).steps({})
    assert list(steps) == [None, found]
    assert seen == [{7}, {7}]
    assert board.numbers == set(), "a step that is over is not at fault for what comes"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        pytest.param({}, "MODEL_SERVER_POOL_MODELS is missing", id="no list"),
        pytest.param({"POOL_MODELS": "/l", "STORAGE_URI": "file:///a"}, "a pool has many models", id="one model"),
        pytest.param({"POOL_MODELS": "/l", "ACCELERATE": "onnx"}, "pools do not have it", id="what pools do not do"),
        pytest.param({"POOL_MODELS": "/l", "POOL_MEMORY_BYTES": "5"}, "POOL_MEMORY_BYTES", id="a budget too small"),
        pytest.param({"POOL_MODELS": "/l", "POOL_TURBO": "5"}, "TURBO", id="an unknown setting"),
    ],
)
def test_settings_of_a_pool_are_checked(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsInvalid, match=message):
        read_pool_settings({f"MODEL_SERVER_{name}": value for name, value in environ.items()})
