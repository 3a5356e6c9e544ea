"""A download that many share, and a cache that cannot serve the wrong package."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import http_servers
import pytest

from model_server.storage.cache import obtain

CONTENT = b"\x08" + bytes(1_000_000)
PIN = hashlib.sha256(CONTENT).hexdigest()


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
    return obtain(uri, own, cache, pin, environ={}, tell=lambda text: None)


def test_twenty_that_come_together_download_once(source, tmp_path):
    uri, asked = source
    with ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(get, uri, tmp_path / f"own-{number}", tmp_path / "cache", PIN) for number in range(20)]
        found = [job.result() for job in jobs]
    assert {sha256 for _, sha256 in found} == {PIN}
    assert all(path.read_bytes() == CONTENT for path, _ in found)
    assert len(asked) == 1


def test_what_was_changed_in_the_cache_is_fetched_again(source, tmp_path):
    uri, asked = source
    path, _ = get(uri, tmp_path / "own", tmp_path / "cache", PIN)
    path.write_bytes(b"changed")
    path, sha256 = get(uri, tmp_path / "own", tmp_path / "cache", PIN)
    assert (path.read_bytes(), sha256, len(asked)) == (CONTENT, PIN, 2)


def test_a_cut_download_of_another_is_not_found(source, tmp_path):
    uri, _ = source
    files = tmp_path / "cache" / PIN / "files"
    files.mkdir(parents=True)
    (files / "model.onnx.partial").write_bytes(b"half")
    path, sha256 = get(uri, tmp_path / "own", tmp_path / "cache", PIN)
    assert sha256 == PIN
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("pin", "requests"),
    [
        pytest.param("", 2, id="without a pin nothing is cached"),
        pytest.param("0" * 64, 4, id="a source that is not the pinned one is never kept"),
    ],
)
def test_what_is_not_kept(source, tmp_path, pin, requests):
    uri, asked = source
    for number in range(2):
        assert get(uri, tmp_path / f"own-{number}", tmp_path / "cache", pin)[1] == PIN
    assert len(asked) == requests
