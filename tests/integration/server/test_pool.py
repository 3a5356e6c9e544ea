"""A pool of real processes: models on demand, within a budget, and one that ends its process."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pooled import PoolOf, package
from signers import new_key, sign

from model_server.package.digest import digest

MEGABYTE = 2**20


def test_models_are_loaded_when_they_are_asked_for(pool: Callable[..., PoolOf], tmp_path: Path) -> None:
    running = pool(*(package(tmp_path, number) for number in range(3)))
    client = running.server.client
    assert running.loaded() == set()
    assert running.answer("m1") == 1
    assert running.loaded() == {"m1"}
    # Each package's own module, although they have one name.
    assert [running.answer(f"m{number}") for number in (0, 1, 2)] == [0, 1, 2]
    infer = {"inputs": [{"name": "what", "shape": [1, 1], "datatype": "FP64", "data": [0.0]}]}
    assert client.post("/v2/models/m2/infer", json=infer).json()["outputs"][0]["data"] == [2]
    assert client.get("/v2/models/m0").json()["inputs"][0]["shape"] == [-1, 1]
    assert client.get("/v2/models/m0/ready").json() == {"name": "m0", "ready": True}
    unknown = client.post("/v2/models/m22/infer", json=infer)
    assert unknown.status_code == 404
    assert "Did you mean" in unknown.json()["hint"]
    assert running.metric("modeldeploy_pool_loads_total") == 3
    assert 'model="m22"' not in client.get("/metrics").text
    assert client.post("/v2/repository/models/m0/unload").status_code == 200
    assert running.loaded() == {"m1", "m2"}
    assert client.post("/v2/repository/models/m0/load").status_code == 200
    assert running.loaded() == {"m0", "m1", "m2"}
    assert running.server.terminate() == 0


def test_each_model_has_the_steps_of_its_own_package(pool: Callable[..., PoolOf], tmp_path: Path) -> None:
    entries = [package(tmp_path, number) for number in (1, 2)]
    for number in (1, 2):
        own = tmp_path / f"package-{number}"
        (own / "pre.py").write_text("def transform(inputs):\n    return inputs['what'].reshape(-1, 1) * 0\n")
        (own / "post.py").write_text(f"def transform(outputs):\n    return outputs['predict'] + {number * 10}\n")
    running = pool(*entries)
    assert [running.answer(f"m{number}", 5) for number in (1, 2, 1)] == [11, 22, 11]


def test_a_list_that_changes_restarts_nothing(pool: Callable[..., PoolOf], tmp_path: Path) -> None:
    one, two, three = (package(tmp_path, number) for number in range(3))
    running = pool(one, two)
    assert (running.answer("m0"), running.answer("m1")) == (0, 1)
    running.list({**one, "storageUri": three["storageUri"]}, three)
    running.server.wait_until(lambda: set(running.index()) == {"m0", "m2"})
    assert running.ask("m1").status_code == 404
    assert running.answer("m0") == 2, "the new package answers under the old name"
    (running.listing).write_text("models: [{name: m0}]")
    running.server.wait_until(lambda: running.metric("modeldeploy_pool_list_invalid") == 1)
    assert running.answer("m2") == 2, "a wrong list leaves the last one in place"
    assert "storageUri" in running.server.client.get("/readyz").json()["message"]


def test_a_pool_over_its_budget_unloads_what_was_not_used_and_loses_nothing(
    pool: Callable[..., PoolOf], tmp_path: Path
) -> None:
    count, budget = 10, 400 * MEGABYTE
    models = [package(tmp_path, number, megabytes=40) for number in range(count)]
    running = pool(*models, package(tmp_path, 99, megabytes=350), memory_bytes=budget)
    rounds = [*range(count), *range(count)]
    assert [running.answer(f"m{number}") for number in rounds] == rounds
    loaded = running.loaded()
    assert f"m{count - 1}" in loaded
    assert 0 < len(loaded) < count
    assert running.metric("modeldeploy_pool_evictions_total") >= 2 * count - len(loaded) - 1
    running.server.wait_until(lambda: 0 < running.metric("modeldeploy_pool_memory_bytes") <= budget)
    refused = running.ask("m99")
    assert refused.status_code == 503
    assert "ModelTooLarge" in refused.json()["error"]
    assert "its budget is 400 MiB" in refused.json()["error"]
    assert running.metric("modeldeploy_pool_over_budget_total") >= 1
    assert "ModelTooLarge" in running.index()["m99"]["reason"]
    # Told once, not tried again at once, and nobody else is hurt.
    began = time.monotonic()
    assert running.ask("m99").status_code == 503
    assert time.monotonic() - began < 1
    assert [running.answer(f"m{number}") for number in range(count)] == list(range(count))


def test_a_load_that_takes_far_too_much_is_ended_before_the_pod_is(pool: Callable[..., PoolOf], tmp_path: Path) -> None:
    huge = package(tmp_path, 1, megabytes=600)
    running = pool(package(tmp_path, 0), huge, processes=1, memory_bytes=200 * MEGABYTE)
    assert running.answer("m0") == 0
    refused = running.ask("m1")
    assert refused.status_code == 503
    assert "ModelTooLarge: while it was loaded the pool held" in refused.json()["error"]
    assert running.metric("modeldeploy_pool_process_ends_total") == 1
    assert running.answer("m0") == 0, "nobody else is under suspicion"
    assert {one["reason"].partition(":")[0] for one in running.index().values()} == {"", "ModelTooLarge"}


def test_a_model_that_ends_its_process_is_put_aside_and_the_others_lose_nothing(
    pool: Callable[..., PoolOf], tmp_path: Path
) -> None:
    models = [package(tmp_path, number) for number in range(6)]
    running = pool(*models, package(tmp_path, 7, dies=True), processes=1, preload=2)
    assert running.loaded() == {"m0", "m1"}
    for number in range(6):
        assert running.answer(f"m{number}") == number
    with ThreadPoolExecutor(6) as clients:
        others = [clients.submit(running.answer, f"m{number}", 0.3) for number in range(1, 5)]
        killer = clients.submit(running.ask, "m0", -1).result()
        assert [other.result() for other in others] == [1, 2, 3, 4]
    assert killer.status_code == 503, running.server.describe()
    assert killer.json()["reason"] == "ModelPutAside", f"{killer.text} {running.server.describe()}"
    assert "signal SIGSEGV" in killer.json()["error"]
    assert running.ask("m0").status_code == 503, "not even a good request is given to it"
    at_load = running.ask("m7")
    assert at_load.json()["reason"] == "ModelPutAside"
    assert "exit code 3" in at_load.json()["error"]
    index = running.index()
    assert {name for name, one in index.items() if one["reason"].startswith("put aside")} == {"m0", "m7"}
    assert running.server.client.get("/v2/models/m0/ready").status_code == 503
    assert running.answer("m5") == 5
    assert running.metric("modeldeploy_pool_process_ends_total") >= 4
    # Somebody has looked at it: one more try.
    assert running.server.client.post("/v2/repository/models/m0/load").status_code == 200
    assert running.answer("m0") == 0


def test_a_call_that_never_returns_is_a_crash(pool: Callable[..., PoolOf], tmp_path: Path) -> None:
    models = [package(tmp_path, number) for number in range(2)]
    running = pool(*models, processes=1, preload=2, seconds=0.3)
    assert running.ask("m0", 600).status_code == 504
    running.server.wait_until(lambda: running.metric("modeldeploy_pool_process_ends_total") == 1)
    # Now alone: requests that find it being loaded are told so.
    running.server.wait_until(lambda: running.ask("m0", 600).status_code == 504)
    running.server.wait_until(lambda: running.ask("m0").json().get("reason") == "ModelPutAside")
    running.server.wait_until(lambda: running.ask("m1").status_code == 200)


def test_downloads_of_pins_that_are_gone_are_deleted(pool: Callable[..., PoolOf], tmp_path: Path) -> None:
    one, two = ({**package(tmp_path, number), "trusted": False} for number in range(2))
    first, second = (digest(Path(entry["storageUri"].removeprefix("file://"))) for entry in (one, two))
    running = pool({**one, "sha256": first}, {**two, "sha256": second}, processes=1)
    assert (running.answer("m0"), running.answer("m1")) == (0, 1)
    cache = tmp_path / "pool" / "cache" / "_"
    assert {path.name for path in cache.iterdir()} == {first, second}
    running.list({**one, "sha256": first})
    running.server.wait_until(lambda: {path.name for path in cache.iterdir()} == {first})
    assert running.answer("m0") == 0


def test_a_slow_neighbour_neither_holds_up_others_nor_takes_the_queue(
    pool: Callable[..., PoolOf], tmp_path: Path
) -> None:
    running = pool(*(package(tmp_path, number) for number in range(2)), processes=1, model_concurrency=3)
    assert (running.answer("m0"), running.answer("m1")) == (0, 1)
    with ThreadPoolExecutor(8) as clients:
        slow = [clients.submit(running.ask, "m0", 1.5) for _ in range(6)]
        time.sleep(0.3)
        took = []
        for _ in range(10):
            began = time.monotonic()
            assert running.answer("m1") == 1
            took.append(time.monotonic() - began)
        codes = sorted(one.result().status_code for one in slow)
    assert sorted(took)[5] < 0.5, took
    assert codes == [200, 200, 200, 503, 503, 503]
    assert running.metric("modeldeploy_pool_refusals_total") == 3


def test_a_model_may_have_a_limit_of_its_own(pool: Callable[..., PoolOf], tmp_path: Path) -> None:
    listed = {**package(tmp_path, 0), "concurrency": 1}
    running = pool(listed, package(tmp_path, 1), preload=2)
    with ThreadPoolExecutor(4) as clients:
        slow, other = (
            sorted(one.result().status_code for one in [clients.submit(running.ask, name, 1) for _ in range(2)])
            for name in ("m0", "m1")
        )
    assert (slow, other) == ([200, 503], [200, 200])


def test_a_package_that_cannot_be_loaded_tells_why(pool: Callable[..., PoolOf], tmp_path: Path) -> None:
    good = package(tmp_path, 1)
    running = pool(good, {"name": "gone", "storageUri": "file:///nowhere"}, {**good, "name": "m2", "trusted": False})
    refused = running.ask("gone")
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert refused.json()["reason"] == "ModelUnloadable"
    assert "ArtifactNotFound: file:///nowhere does not exist" in refused.json()["error"]
    assert "ArtifactNotTrusted" in running.ask("m2").json()["error"]
    assert running.answer("m1") == 1
    assert {path.name for path in (tmp_path / "pool").glob("process-*/*")} == {"model-1"}


def test_every_package_of_a_pool_has_to_be_signed(pool: Callable[..., PoolOf], tmp_path: Path) -> None:
    ours, theirs = new_key(tmp_path, "ours"), new_key(tmp_path, "theirs")
    signed, foreign, changed, plain = ({**package(tmp_path, number), "trusted": False} for number in range(4))
    for entry, key in ((signed, ours), (foreign, theirs), (changed, ours)):
        sign(Path(entry["storageUri"].removeprefix("file://")), key)
    (tmp_path / "package-2" / "helper.py").write_text("NUMBER = 22\n")
    running = pool(signed, foreign, changed, plain, server={"signature_public_key": ours.with_suffix(".pub")})
    assert running.answer("m0") == 0, "a valid signature vouches for code"
    reasons = ("SignatureInvalid", "SignatureMismatch", "SignatureMissing")
    for number, reason in enumerate(reasons, start=1):
        refused = running.ask(f"m{number}")
        assert (refused.status_code, refused.json()["reason"]) == (503, "ModelUnloadable")
        assert reason in refused.json()["error"]
    running.list({**signed, "sha256": "0" * 64})
    running.server.wait_until(lambda: "DigestMismatch" in running.ask("m0").text)


def test_without_a_list_there_is_no_pool(tmp_path: Path, run_server: Callable[..., Any]) -> None:
    with run_server(tmp_path, "", arguments=("pool",), pool_models=tmp_path / "none") as server:
        assert server.wait_exit() == 78
        assert "cannot be read" in server.termination()["message"]
