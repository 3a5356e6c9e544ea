"""A download that many share, and a cache that cannot serve the wrong package: what was hashed is what is loaded."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import http_servers
import pytest

from model_server.errors import ArtifactCorrupt, CacheUnusable, DigestMismatch
from model_server.lifecycle import Phase
from model_server.loader import load
from model_server.package.digest import digest
from model_server.settings import read_settings
from model_server.storage.cache import Cache, obtain

CONTENT = b"\x08" + bytes(1_000_000)
PIN = hashlib.sha256(CONTENT).hexdigest()


GOOD = """from pathlib import Path
def load_model(path): return Path(path, 'weights').read_text()
def predict(model, inputs): return [1] * len(inputs)
"""
EVIL = GOOD.replace("[1]", "[666]")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


@pytest.fixture
def source() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(http_servers.Handler):
        def do_GET(self):
            asked.append(self.path)
            self.answer(CONTENT)

    with http_servers.served(Handler) as host:
        yield f"http://{host}/model.onnx", asked


def get(uri: str, own: Path, cache: Path | None, pin: str) -> tuple[Path, str]:
    return obtain(uri, own, Cache(cache, "team-a") if cache else None, pin, environ={}, tell=lambda text: None)


def cached(cache: Path, name: str = "model.onnx") -> Path:
    """The file in the cache, which a neighbour could write to."""
    return cache / "team-a" / PIN / "files" / name


def test_twenty_that_come_together_download_once(source, cache, tmp_path):
    uri, asked = source
    with ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(get, uri, tmp_path / f"own-{number}", cache, PIN) for number in range(20)]
        found = [job.result() for job in jobs]
    assert {sha256 for _, sha256 in found} == {PIN}
    assert all(path.read_bytes() == CONTENT for path, _ in found)
    assert len(asked) == 1


def test_what_was_changed_in_the_cache_is_fetched_again(source, cache, tmp_path):
    uri, asked = source
    get(uri, tmp_path / "own", cache, PIN)
    cached(cache).write_bytes(b"changed")
    path, sha256 = get(uri, tmp_path / "next", cache, PIN)
    assert (path.read_bytes(), sha256, len(asked)) == (CONTENT, PIN, 2)


def test_a_cut_download_of_another_is_not_found(source, cache, tmp_path):
    uri, _ = source
    cached(cache).parent.mkdir(parents=True)
    cached(cache, "model.onnx.partial").write_bytes(b"half")
    path, sha256 = get(uri, tmp_path / "own", cache, PIN)
    assert sha256 == PIN
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("pin", "requests"),
    [
        pytest.param("", 2, id="without a pin nothing is cached"),
        pytest.param("0" * 64, 4, id="a source that is not the pinned one is never kept"),
    ],
)
def test_what_is_not_kept(source, cache, tmp_path, pin, requests):
    uri, asked = source
    for number in range(2):
        assert get(uri, tmp_path / f"own-{number}", cache, pin)[1] == PIN
    assert len(asked) == requests


def package(folder: Path, code: str = GOOD) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(code)
    (folder / "weights").write_text("w" * 1_000_000)
    return folder


def packed(folder: Path) -> Path:
    archive = folder.with_name("model.tar")
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, "model")
    return archive


def predict(own: Path, attack: Callable[[], object], **settings: object) -> list[int]:
    """Load a model while `attack` is called at each step of the load that the server reports, and ask it."""
    environ = {f"MODEL_SERVER_{name}": str(value) for name, value in settings.items()}

    def report(phase: Phase, text: str) -> None:
        attack()

    loaded = load(read_settings(environ), own, environ=environ, report=report)
    (predictions,) = loaded.model.predict(
        loaded.adapter.from_instances([[0]], numbers_only=False), probabilities=False
    ).values()
    return [int(one) for one in predictions]


@pytest.mark.parametrize("form", [pytest.param(str, id="a folder"), pytest.param(packed, id="an archive")])
def test_what_a_neighbour_replaces_in_the_cache_after_it_was_hashed_is_not_loaded(cache, tmp_path, form):
    good = Path(form(package(tmp_path / "good" / "model")))
    evil = Path(form(package(tmp_path / "evil" / "model", EVIL)))
    pin = digest(good)
    files = cache / "team-a" / pin / "files"
    files.mkdir(parents=True, mode=0o755)
    (cache / "team-a").chmod(0o755)
    place = files / good.name
    shutil.move(good, place)
    (files.parent / "fetched-to").write_text(f"files/{good.name}")

    def attack() -> None:
        for file in [place] if place.is_file() else place.iterdir():
            shutil.copy(evil if place.is_file() else evil / file.name, file)

    settings = {"STORAGE_URI": "https://host.invalid/model", "SHA256": pin, "CACHE_DIR": cache, "NAMESPACE": "team-a"}
    reports = iter(["downloading", "copying"])
    # The first two reports come before a byte was hashed.
    assert predict(tmp_path / "own", lambda: next(reports, "") or attack(), **settings) == [1]
    assert EVIL in (place / "model.py").read_text() if place.is_dir() else digest(place) == digest(evil)


@pytest.mark.parametrize("scheme", ["pvc", "file"])
def test_what_a_neighbour_replaces_on_a_volume_after_it_was_hashed_is_not_loaded(tmp_path, scheme):
    source = package(tmp_path / "claims" / "shared" / "model")
    pin = digest(source)
    uri = "pvc://shared/model" if scheme == "pvc" else f"file://{source}"
    reports = iter(["downloading", "copying"])

    def attack() -> None:
        (source / "model.py").write_text(EVIL)

    settings = {"STORAGE_URI": uri, "SHA256": pin, "CLAIMS_DIR": tmp_path / "claims"}
    assert predict(tmp_path / "own", lambda: next(reports, "") or attack(), **settings) == [1]
    assert (source / "model.py").read_text() == EVIL


def test_a_writer_that_never_stops_gets_the_load_refused_or_the_pinned_bytes_served(tmp_path):
    source = package(tmp_path / "claims" / "shared" / "model")
    pin, ended, outcomes = digest(source), threading.Event(), set()

    def write() -> None:
        while not ended.is_set():
            for code in (EVIL, GOOD):
                (source / "model.py").write_text(code)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        settings = {"STORAGE_URI": "pvc://shared/model", "SHA256": pin, "CLAIMS_DIR": tmp_path / "claims"}
        for number in range(30):
            try:
                outcomes.add(tuple(predict(tmp_path / f"own-{number}", lambda: None, **settings)))
            except DigestMismatch:
                outcomes.add("refused")
    finally:
        ended.set()
        writer.join()
    assert outcomes <= {(1,), "refused"}


def test_the_copy_is_read_only(source, cache, tmp_path):
    uri, _ = source
    path, _ = get(uri, tmp_path / "own", cache, PIN)
    assert path.is_relative_to(tmp_path / "own")
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_a_pipe_in_a_package_is_refused(tmp_path):
    source = package(tmp_path / "model")
    os.mkfifo(source / "weights.bin")
    with pytest.raises(ArtifactCorrupt, match=r"weights\.bin is no regular file"):
        get(f"file://{source}", tmp_path / "own", None, PIN)


def test_namespaces_share_nothing(source, cache, tmp_path):
    uri, asked = source
    for namespace in ("team-a", "team-b", ""):
        obtain(uri, tmp_path / f"own-{namespace}", Cache(cache, namespace), PIN, environ={}, tell=lambda text: None)
    assert len(asked) == 3
    assert sorted(one.name for one in cache.iterdir()) == ["_", "team-a", "team-b"]
    assert {stat.S_IMODE(one.stat().st_mode) for one in cache.iterdir()} == {0o700}


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        pytest.param(lambda folder: (folder.mkdir(), folder.chmod(0o757)), "others can write", id="open to everybody"),
        pytest.param(lambda folder: folder.symlink_to("/tmp"), "is no folder", id="a link elsewhere"),
        pytest.param(lambda folder: folder.write_text(""), "File exists", id="a file"),
    ],
)
def test_a_part_of_the_cache_that_others_can_write_to_is_refused(cache, tmp_path, prepare, message):
    prepare(cache / "team-a")
    with pytest.raises(CacheUnusable, match=message) as caught:
        get("https://host.invalid/model", tmp_path / "own", cache, PIN)
    assert caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
@pytest.mark.parametrize(
    ("owner", "group", "mode", "message"),
    [
        pytest.param(65531, 0, 0o700, "belongs to user 65531", id="another user's"),
        pytest.param(0, 65531, 0o770, "group 65531: others can write", id="another group's"),
    ],
)
def test_a_part_of_the_cache_that_is_of_others_is_refused(cache, tmp_path, owner, group, mode, message):
    (cache / "team-a").mkdir()
    os.chown(cache / "team-a", owner, group)
    (cache / "team-a").chmod(mode)
    with pytest.raises(CacheUnusable, match=message):
        get("https://host.invalid/model", tmp_path / "own", cache, PIN)


def test_the_group_of_a_claim_may_write(source, cache, tmp_path):
    """kubelet opens what it finds on a claim to the group of `fsGroup`, which is the server's own."""
    (cache / "team-a").mkdir()
    (cache / "team-a").chmod(0o2770)
    uri, _ = source
    assert get(uri, tmp_path / "own", cache, PIN)[1] == PIN
