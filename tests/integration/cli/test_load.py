"""The load that proves "no failed request": it must see failures and wrong answers when there are any."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import http_servers
import pytest
from waiting import wait_until

from modeldeploy.demo.load import Load

ROWS = [[1.0], [2.0]]
EXPECTED = {"1": [10, 20]}


@contextmanager
def a_server(answer: dict[str, Any], status: int = 200) -> Iterator[str]:
    """A server that answers each request with its row's number put into `answer`."""

    class Handler(http_servers.Handler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sent = json.loads(self.body())
            body = json.dumps({"predictions": [int(sent["instances"][0][0] * 10)], **answer}).encode()
            self.answer(body, status)

    with http_servers.served(Handler) as host:
        yield f"http://{host}/predict"


def run(url: str) -> Any:
    with Load(url, ROWS, EXPECTED, clients=2, rate=200) as load:
        wait_until(lambda: load.report.sent >= 20, "twenty requests were sent", seconds=20)
    return load.report


def test_right_answers_are_counted_by_version() -> None:
    with a_server({"model_version": "1"}) as url:
        report = run(url)
    assert report.failed == report.differing == []
    assert report.answered["1"] == report.sent >= 20


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param({"model_version": "1", "predictions": [99]}, "served 99", id="a wrong prediction"),
        pytest.param({"model_version": "7"}, "unknown version '7'", id="a version nobody deployed"),
    ],
)
def test_a_wrong_answer_is_found(answer: dict[str, Any], said: str) -> None:
    with a_server(answer) as url:
        report = run(url)
    assert len(report.differing) == report.sent
    assert said in report.differing[0]


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        pytest.param({"model_version": "1"}, 503, "503", id="an error status"),
        pytest.param({}, 200, "model_version", id="an answer without a version"),
    ],
)
def test_a_failed_request_is_counted(answer: dict[str, Any], status: int, said: str) -> None:
    with a_server(answer, status) as url:
        report = run(url)
    assert len(report.failed) == report.sent
    assert said in report.failed[0]


def test_a_server_that_is_not_there_is_a_failed_request() -> None:
    report = run("http://127.0.0.1:9/predict")
    assert len(report.failed) == report.sent
