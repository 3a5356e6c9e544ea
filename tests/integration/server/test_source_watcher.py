"""A running server says that another object lies at its URI, and goes on serving the one it loaded."""

from __future__ import annotations

import re
from pathlib import Path


def changed_source(server):
    found = re.search(r'^modeldeploy_source_changed\{.*source="(\w+)".*\} 1\.0$', metrics(server), re.MULTILINE)
    return found[1] if found else None


def metrics(server):
    return server.client.get("/metrics").text


def test_a_change_is_said_and_changes_nothing(serve, sign):
    model = Path(sign.removeprefix("file://")) / "model.py"
    before = model.read_text()
    server = serve(sign, trusted=True, poll_seconds=0.1).wait_ready()
    assert changed_source(server) is None
    model.write_text(before.replace("> 0", "> 100"))
    server.wait_until(lambda: changed_source(server) is not None)
    first = changed_source(server)
    model.write_text(before.replace("> 0", "> 1000"))
    server.wait_until(lambda: changed_source(server) not in (None, first))
    answer = server.client.post("/predict", json={"instances": [[1, 0]]})
    assert answer.json()["predictions"] == [1]
