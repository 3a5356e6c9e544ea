"""The meter in front of a server that answers as it is told: framing, streams, limits, failures, the end."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import re
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from certificates import certificate
from metered_servers import ANSWER, Running, metered, read, request
from waiting import until


@pytest.fixture
async def meter(tmp_path: Path) -> AsyncIterator[Running]:
    async with metered(tmp_path) as running:
        yield running


# --- what is passed on


async def test_a_request_is_passed_on_as_it_came(meter):
    answer = await meter.ask(
        "/echo?a=1", b'{"x": 1}', content_type="application/json", x_tenant="a", x_request_id="r-1"
    )
    assert (answer.status, answer.body) == (200, b'{"x": 1}')
    assert b"x-request-id: r-1\r\n" in answer.head
    [(head, body)] = meter.behind.seen
    assert head.startswith(b"POST /echo?a=1 HTTP/1.1\r\n")
    assert b"x-tenant: a\r\n" in head
    assert b"x-request-id: r-1\r\n" in head
    assert b"connection:" not in head
    assert body == b'{"x": 1}'


async def test_fields_of_one_connection_stay_on_it(meter):
    fields = {"te": "trailers", "keep_alive": "5", "x_hop": "1", "upgrade": "h2c"}
    async with meter.connection() as (reader, writer):
        writer.write(request("/score", connection="X-Hop, Upgrade", **fields))
        assert (await read(reader)).status == 200
    [(head, _)] = meter.behind.seen
    for name in (b"te", b"keep-alive", b"x-hop", b"upgrade", b"connection"):
        assert name + b":" not in head


async def test_offers_of_another_protocol_are_left_and_their_requests_answered(meter):
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAMAAABk"}
    async with meter.connection() as (reader, writer):
        writer.write(b"".join(request("/echo", b"%d" % number, **offer) for number in range(4)))
        assert [(await read(reader)).body for _ in range(4)] == [b"0", b"1", b"2", b"3"]


async def test_connections_are_kept_on_both_sides(meter):
    before = meter.behind.connections
    async with meter.connection() as (reader, writer):
        for _ in range(5):
            writer.write(request("/score"))
            assert (await read(reader)).body == ANSWER
    # Probes have connections of their own.
    assert meter.behind.connections - before <= 2


async def test_a_chunked_body_arrives_whole(meter):
    body = b'4\r\n{"a"\r\n4\r\n: 1}\r\n0\r\n\r\n'
    answer = await meter.ask("/echo", body, transfer_encoding="chunked")
    assert answer.body == b'{"a": 1}'


async def test_a_large_body_and_answer_arrive_whole(meter):
    body = os.urandom(4 * 2**20)
    answer = await meter.ask("/echo", body)
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()


async def test_pipelined_requests_are_answered_in_their_order(meter):
    async with meter.connection() as (reader, writer):
        writer.write(b"".join(request("/echo", str(number).encode()) for number in range(10)))
        assert [(await read(reader)).body for _ in range(10)] == [str(number).encode() for number in range(10)]


@pytest.mark.parametrize("seed", range(5))
async def test_it_does_not_matter_how_bytes_arrive(meter, seed):
    dice = random.Random(seed)
    bodies = [os.urandom(dice.choice((0, 1, 100, 70_000))) for _ in range(8)]
    raw = b"".join(
        request("/echo", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), transfer_encoding="chunked")
        if body and dice.random() < 0.5
        else request("/echo", body)
        for body in bodies
    )
    async with meter.connection() as (reader, writer):

        async def write() -> None:
            rest = raw
            while rest:
                size = dice.choice((1, 7, 50, 4096, 100_000))
                writer.write(rest[:size])
                await writer.drain()
                rest = rest[size:]

        writing = asyncio.create_task(write())
        assert [(await read(reader)).body for _ in bodies] == bodies
        await writing
    assert await meter.count(200) == len(bodies)


async def test_a_client_that_waits_for_100_gets_it(meter):
    async with meter.connection() as (reader, writer):
        writer.write(request("/echo", b"", expect="100-continue").replace(b"content-length: 0", b"content-length: 5"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"later")
        assert (await read(reader)).body == b"later"


async def test_a_token_reaches_the_client_before_the_next_is_there(meter):
    async with meter.connection() as (reader, writer):
        writer.write(request("/stream"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head
        assert await reader.readuntil(b"token 1\n\n\r\n")
        meter.behind.release.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"f\r\ndata: token 2\n\n\r\n0\r\n\r\n"


async def test_an_answer_that_ends_with_its_connection_is_whole(meter):
    answer = await meter.ask("/until_close")
    assert (answer.body, answer.is_whole) == (b"all of it", True)


async def test_a_client_of_http_1_0_gets_no_chunks(meter):
    meter.behind.release.set()
    async with meter.connection() as (reader, writer):
        writer.write(request("/stream").replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = await reader.read()
    assert b"transfer-encoding" not in answer
    assert answer.endswith(b"\r\n\r\ndata: token 1\n\ndata: token 2\n\n")


async def test_head_and_interim_answers(meter):
    answer = await meter.ask("/score", None, method="HEAD")
    assert answer.status == 200
    assert b"content-length: 12" in answer.head
    assert (await meter.ask("/continue")).body == ANSWER


# --- what is counted


async def test_posts_are_predictions_and_nothing_else_is(meter):
    await meter.ask("/score")
    await meter.ask("/score", None, method="GET")
    await meter.ask("/refuse")
    await meter.ask("/teapot")
    assert [await meter.count(code) for code in (200, 422, 418)] == [1, 1, 1]
    text = await meter.metrics()
    assert 'modeldeploy_refusals_total{model="scorer",reason="InvalidInput",revision="",version=""} 1.0' in text
    assert 'modeldeploy_request_duration_seconds_count{model="scorer",revision="",version=""} 3.0' in text
    assert 'modeldeploy_requests_in_flight{model="scorer",revision="",version=""} 0.0' in text


async def test_paths_of_predictions_can_be_named(tmp_path):
    async with metered(tmp_path, METER_PREDICTION_PATHS="/score,/v1/") as meter:
        await meter.ask("/score?user=1", None, method="GET")
        await meter.ask("/echo")
        assert await meter.count(200) == 1


async def test_all_workers_count_together(tmp_path):
    async with metered(tmp_path, WORKERS=2) as meter:
        await asyncio.gather(*(meter.ask("/score") for _ in range(40)))
        assert await meter.count(200) == 40


# --- what fails


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        pytest.param("/dies", 502, "broke off before its answer was complete", id="the server dies"),
        pytest.param("/packed", 502, "another transfer coding", id="the server packs its answer"),
        pytest.param("/nonsense", 502, "answered what is no HTTP", id="the server speaks another protocol"),
    ],
)
async def test_a_server_that_fails_is_a_502_with_the_reason(meter, path, status, message):
    answer = await meter.ask(path)
    said = json.loads(answer.body)
    assert (answer.status, said["reason"]) == (status, "UpstreamFailed")
    assert message in said["error"]
    assert await meter.count(status) == 1


async def test_a_server_that_dies_amid_its_answer_does_not_seem_whole(meter):
    answer = await meter.ask("/dies_amid")
    assert (answer.status, answer.is_whole) == (200, False)
    assert await meter.count(502) == 1
    assert await meter.count(200) == 0


async def test_a_kept_connection_that_the_server_closes_costs_no_request(meter):
    async with meter.connection() as (reader, writer):
        for _ in range(2):
            writer.write(request("/once"))
            assert (await read(reader)).status == 200
    assert len(meter.behind.seen) == 3
    assert await meter.count(200) == 2


async def test_a_second_answer_is_nobodys(meter):
    async with meter.connection() as (reader, writer):
        for path in ("/twice", "/score", "/score"):
            writer.write(request(path))
            assert (await read(reader)).body == ANSWER


async def test_a_slow_server_is_a_504(tmp_path):
    async with metered(tmp_path, REQUEST_TIMEOUT_SECONDS=0.5) as meter:
        answer = await meter.ask("/slow")
        assert answer.status == 504
        assert json.loads(answer.body)["error"] == "the server behind did not answer within 0.5 s"
        assert await meter.count(504) == 1


async def test_a_client_that_goes_away_takes_its_request_along(meter):
    async with meter.connection() as (_, writer):
        writer.write(request("/stream"))
        await writer.drain()
        await until(lambda: meter.behind.seen)
    await meter.counts(499, 1)


async def test_a_client_that_does_not_read_is_not_the_fault_of_the_server(tmp_path):
    async with metered(tmp_path, REQUEST_TIMEOUT_SECONDS=1) as meter:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", meter.port))
            await loop.sock_sendall(client, request("/echo", b"x" * 10_000_000))
            await meter.counts(499, 1)
        assert await meter.count(504) == 0


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_over_the_limit_is_refused_and_not_passed_on(tmp_path, is_chunked):
    async with metered(tmp_path, MAX_REQUEST_BYTES=1000) as meter:
        body = b"x" * 200_000
        if is_chunked:
            answer = await meter.ask("/echo", b"30d40\r\n" + body + b"\r\n0\r\n\r\n", transfer_encoding="chunked")
        else:
            answer = await meter.ask("/echo", body)
        assert answer.status == 413
        assert b"connection: close" in answer.head
        assert json.loads(answer.body)["reason"] == "RequestTooLarge"


async def test_an_answer_before_the_body_is_whole_ends_the_connection(meter):
    async with meter.connection() as (reader, writer):
        writer.write(request("/early", b"").replace(b"content-length: 0", b"content-length: 100000"))
        answer = await read(reader)
        assert (answer.status, answer.body) == (413, b"too much")
        assert b"connection: close" in answer.head
        assert await reader.read() == b""


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"GARBAGE\r\n\r\n", id="no HTTP"),
        pytest.param(
            b"POST /score HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            id="two lengths, by which a request is smuggled",
        ),
        pytest.param(
            b"POST /score HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="a body that is packed"
        ),
        pytest.param(b"POST /score HTTP/1.1\r\ncontent-length: -1\r\n\r\n", id="a negative length"),
        pytest.param(b"GET http://other/ HTTP/1.1\r\nhost: a\r\n\r\n", id="a target that is no path"),
    ],
)
async def test_what_is_no_request_is_a_400_and_goes_nowhere(meter, raw):
    async with meter.connection() as (reader, writer):
        writer.write(raw)
        answer = await read(reader)
    assert answer.status == 400
    assert meter.behind.seen == []


async def test_a_head_without_end_is_refused(meter):
    async with meter.connection() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * 100_000)
        assert (await reader.readline()).startswith(b"HTTP/1.1 431")


async def test_a_head_that_never_ends_is_cut(tmp_path):
    async with metered(tmp_path, HEADER_TIMEOUT_SECONDS=0.5) as meter, meter.connection() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n")
        async with asyncio.timeout(5):
            assert await reader.read() == b""


async def test_more_requests_than_may_be_open_are_refused(tmp_path):
    async with metered(tmp_path, MAX_QUEUE_SIZE=2) as meter:
        slow = [asyncio.create_task(meter.ask("/slow")) for _ in range(2)]
        await until(lambda: len(meter.behind.seen) == 2)
        answer = await meter.ask("/score")
        assert (answer.status, json.loads(answer.body)["reason"]) == (503, "Overloaded")
        meter.behind.release.set()
        assert [one.status for one in await asyncio.gather(*slow)] == [200, 200]


# --- keys


async def test_a_key_is_asked_for_and_not_passed_on(tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "mobile").write_text("secret")
    async with metered(tmp_path, AUTH_DIR=keys, AUTH_LIMITS="mobile:rate=0.01:burst=1") as meter:
        assert (await meter.ask("/score")).status == 401
        assert (await meter.ask("/score", x_api_key="other")).status == 401
        assert (await meter.ask("/score", authorization="Bearer secret")).status == 200
        limited = await meter.ask("/score", x_api_key="secret")
        assert limited.status == 429
        assert b"retry-after:" in limited.head
        label = b'{"prediction": 1, "label": 1}'
        feedback = [(await meter.ask("/feedback", label, x_api_key="secret")).status for _ in range(2)]
        assert feedback == [200, 429], "as much as it may ask, and apart from that"
        [(head, _)] = meter.behind.seen
        assert b"secret" not in head
        assert [await meter.count(code) for code in (200, 401, 429)] == [1, 2, 0]


async def test_it_speaks_tls_to_clients_and_plain_http_to_the_server_behind(tmp_path):
    certificate(tmp_path / "tls")
    trust = ssl.create_default_context(cafile=str(tmp_path / "tls" / "tls.crt"))
    async with metered(tmp_path, waits=False, TLS_DIR=tmp_path / "tls") as meter:
        async with asyncio.timeout(10):
            while True:
                reader, writer = await asyncio.open_connection("localhost", meter.port, ssl=trust)
                writer.write(request("/echo", b"x" * 200_000, connection="close"))
                answer = await read(reader)
                writer.close()
                if answer.status == 200:
                    break
                await asyncio.sleep(0.05)
        assert answer.body == b"x" * 200_000


# --- feedback and the input log


async def test_labels_and_conversions_are_counted(meter):
    for body in ({"prediction": 1, "label": 1}, {"prediction": "a", "label": "b"}, {"conversion": True}):
        assert (await meter.ask("/feedback", json.dumps(body).encode())).status == 200
    text = await meter.metrics()
    labels = 'model="scorer",outcome="{}",revision="",version=""'
    for outcome in ("correct", "wrong"):
        assert f"modeldeploy_feedback_total{{{labels.format(outcome)}}} 1.0" in text
    assert 'modeldeploy_conversions_total{converted="true",model="scorer",revision="",version=""} 1.0' in text
    assert await meter.count(200) == 0
    assert meter.behind.seen == []


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        pytest.param(b"{", 400, "the body is no JSON", id="no JSON"),
        pytest.param(b"[]", 422, "expected an object", id="no object"),
        pytest.param(b"{}", 422, "label: is missing", id="no label"),
        pytest.param(
            b'{"id": "x", "label": 1}', 404, "no prediction with id 'x'", id="an answer that nobody remembers"
        ),
        pytest.param(b" " * 300_000, 413, "feedback has at most", id="too much"),
    ],
)
async def test_feedback_that_cannot_be_counted(meter, body, status, message):
    answer = await meter.ask("/feedback", body)
    assert answer.status == status
    assert message in json.loads(answer.body)["error"]


async def test_a_label_finds_an_answer_in_v2_by_its_id(tmp_path):
    async with metered(tmp_path, METER_PROTOCOL="openInference") as meter:
        said = json.dumps({"outputs": [{"name": "y", "data": [0, 1]}]}).encode()
        assert (await meter.ask("/echo", said, x_request_id="r-1")).body == said
        label = json.dumps({"id": "r-1", "label": [0, 2]}).encode()
        assert (await meter.ask("/feedback", label)).status == 200
        assert (await meter.ask("/feedback", label)).status == 404, "a label counts once"
        assert (await meter.ask("/echo", b'{"outputs": []}', x_request_id="r-2")).status == 200
        unread = await meter.ask("/feedback", b'{"id": "r-2", "label": 1}')
        assert (unread.status, "send prediction and label" in unread.body.decode()) == (422, True)
        text = await meter.metrics()
        assert 'outcome="correct",revision="",version=""} 1.0' in text


async def test_what_is_sampled_is_logged_and_what_is_redacted_is_not(tmp_path):
    settings = {"INPUT_LOG_SAMPLE_RATE": 1, "INPUT_LOG_SINK": f"file://{tmp_path}/log", "INPUT_LOG_REDACT": "name,age"}
    async with metered(tmp_path, **settings) as meter:
        v2 = {"inputs": [{"name": "age", "data": [31]}, {"name": "income", "data": [2]}], "name": "Ann"}
        await meter.ask("/echo", json.dumps(v2).encode(), x_request_id="r-1")
        await meter.ask("/echo", b"Ann, 31", x_request_id="r-2")
        await meter.ask("/score", b"x" * 300_000, x_request_id="r-3")
        await meter.ask("/refuse", x_request_id="r-4")
        text = await meter.shows(r"input_log_written_total\{[^}]*\} 2\.0")
        [dropped] = re.findall(r"modeldeploy_input_log_dropped_total\{[^}]*\} (\S+)", text)
        assert float(dropped) == 1
    lines = [line for file in sorted((tmp_path / "log").rglob("*.jsonl")) for line in file.read_text().splitlines()]
    entries = {entry["id"]: entry for entry in map(json.loads, lines)}
    assert set(entries) == {"r-1", "r-2"}
    tensors = [{"name": "[redacted]", "data": "[redacted]"}, {"name": "[redacted]", "data": [2]}]
    assert entries["r-1"]["inputs"] == {"inputs": tensors, "name": "[redacted]"}
    assert entries["r-2"]["inputs"] == "[redacted]"
    assert entries["r-1"]["model"] == "scorer"


# --- ready, and the end


async def test_it_is_ready_when_the_server_behind_is_and_says_what_that_answered(tmp_path):
    async with metered(tmp_path, waits=False) as meter:
        meter.behind.is_ready = False
        waiting = await meter.until(lambda answer: b"503" in answer.body)
        assert waiting.status == 503
        said = json.loads(waiting.body)
        assert said["phase"] == "loading"
        assert said["message"] == f"GET /ready on port {meter.behind.port} of the container app: 503 weights"
        meter.behind.is_ready = True
        assert json.loads((await meter.until(lambda answer: answer.status == 200)).body)["phase"] == "ready"
        meter.behind.is_ready = False
        await meter.until(lambda answer: answer.status == 503)
        # Whoever does not know yet is still answered.
        assert (await meter.ask("/score")).status == 200


async def test_at_the_end_what_is_open_is_answered_and_then_the_other_container_may_end(meter):
    slow = asyncio.create_task(meter.ask("/slow"))
    await until(lambda: meter.behind.seen)
    hook = asyncio.create_task(meter.ask("/meter/drained", None, method="GET"))
    await asyncio.sleep(0.2)
    meter.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.5)
    assert not hook.done()
    meter.behind.release.set()
    assert (await slow).body == ANSWER
    drained = await hook
    assert json.loads(drained.body) == {"phase": "drained"}
    assert await asyncio.wait_for(meter.process.wait(), 10) == 0


async def test_a_setting_that_needs_a_model_of_ours_is_named(tmp_path):
    environ = {
        **os.environ,
        "MODEL_SERVER_METER_UPSTREAM_PORT": "9000",
        "MODEL_SERVER_METER_READINESS_PATH": "/ready",
        "MODEL_SERVER_GRPC_PORT": "9001",
        "MODEL_SERVER_TERMINATION_LOG": str(tmp_path / "termination"),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "model_server", "meter", env=environ, stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 78
    said = json.loads((tmp_path / "termination").read_text())
    assert said["message"].startswith("MODEL_SERVER_GRPC_PORT is set")
