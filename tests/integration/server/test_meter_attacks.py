"""What a client or the server behind may send to a meter, and what it must not gain by it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from metered_servers import ANSWER, Running, metered, read, request

from model_server.meter.meter import MOST_WAITING

HEAD = b"POST /echo HTTP/1.1\r\nhost: model\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
#: A request in the body of another.
INNER = b"GET /score?smuggled HTTP/1.1\r\nhost: model\r\n\r\n"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with metered(tmp_path_factory.mktemp("meter"), REQUEST_TIMEOUT_SECONDS=1) as running:
        yield running


@pytest.fixture
def meter(shared: Running) -> Running:
    """One meter for all: nothing that is sent to it may keep it from the next."""
    shared.behind.seen.clear()
    return shared


# --- a request within a request


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(b"connection: content-length\r\n", id="the length is named as of the connection"),
        pytest.param(b"connection: keep-alive, Content-Length\r\n", id="among others, in other letters"),
        pytest.param(
            b"connection: upgrade\r\nconnection: content-length\r\nupgrade: h2c\r\n", id="beside an offer of HTTP/2"
        ),
        pytest.param(b"connection: host\r\n", id="the host is named as of the connection"),
    ],
)
async def test_a_body_is_never_the_next_request(meter, fields):
    async with meter.connection() as (reader, writer):
        writer.write(HEAD + fields + b"content-length: %d\r\n\r\n" % len(INNER) + INNER + request("/score"))
        answers = [await read(reader), await read(reader)]
    assert [answer.body for answer in answers] == [INNER, ANSWER]
    (head, body), (second, _) = meter.behind.seen
    assert body == INNER
    assert b"\r\nhost: model\r\n" in head
    assert second.startswith(b"POST /score ")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}", id="the same length twice"),
        pytest.param(HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}!", id="two lengths"),
        pytest.param(HEAD + b"content-length: 2, 2\r\n\r\n{}", id="a list of lengths"),
        pytest.param(HEAD + b"content-length: +2\r\n\r\n{}", id="a length with a sign"),
        pytest.param(HEAD + b"content-length:\r\n\r\n{}", id="an empty length"),
        pytest.param(HEAD + b"content-length: 99999999999999999999999\r\n\r\n{}", id="a length that overflows"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\ncontent-length: 9\r\n\r\n0\r\n\r\n", id="TE.CL"),
        pytest.param(
            HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n", id="two codings"
        ),
        pytest.param(HEAD + b"transfer-encoding: xchunked\r\ncontent-length: 2\r\n\r\n{}", id="an unknown coding"),
        pytest.param(HEAD + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n", id="a space before the colon"),
        pytest.param(HEAD + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n", id="a folded line"),
        pytest.param(HEAD + b"x-a: b\r\n x: c\r\ncontent-length: 2\r\n\r\n{}", id="a folded line of any field"),
        pytest.param(HEAD.replace(b"\r\n", b"\n") + b"content-length: 2\n\n{}", id="line feeds alone"),
        pytest.param(HEAD + b"x-a: b\rx-c: d\r\ncontent-length: 2\r\n\r\n{}", id="a carriage return alone"),
        pytest.param(HEAD + b"x-a: b\0\r\ncontent-length: 2\r\n\r\n{}", id="a zero byte"),
        pytest.param(HEAD + b"host: other\r\ncontent-length: 2\r\n\r\n{}", id="two hosts"),
        pytest.param(HEAD + b": a\r\ncontent-length: 2\r\n\r\n{}", id="a field without a name"),
        pytest.param(b"POST /echo HTTP/1.1\r\n x: y\r\nhost: a\r\n\r\n", id="a space before the first field"),
        pytest.param(b"POST /echo\x0b HTTP/1.1\r\nhost: a\r\n\r\n", id="a control character in the target"),
        pytest.param(b"GET model:443 HTTP/1.1\r\nhost: a\r\n\r\n", id="authority-form"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", id="asterisk-form"),
        pytest.param(b"CONNECT other:443 HTTP/1.1\r\nhost: other:443\r\n\r\n", id="CONNECT"),
        pytest.param(b"CONNECT /echo HTTP/1.1\r\nhost: a\r\n\r\n" + INNER, id="CONNECT with a path"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2 with prior knowledge"),
    ],
)
async def test_a_head_that_two_servers_could_read_differently_is_refused(meter, raw):
    async with meter.connection() as (reader, writer):
        writer.write(raw)
        assert (await read(reader)).status == 400
        assert await reader.read() == b""
    assert meter.behind.seen == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"2\n{}\r\n0\r\n\r\n", id="a line feed alone after the size"),
        pytest.param(b"2;\n{}\r\n0\r\n\r\n", id="a line feed alone in an extension"),
        pytest.param(b"-2\r\n{}\r\n0\r\n\r\n", id="a negative size"),
        pytest.param(b"0x2\r\n{}\r\n0\r\n\r\n", id="a size with a prefix"),
        pytest.param(b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n", id="a size that overflows"),
        pytest.param(b"2\r\n{}\r\n0\r\ncontent-length: 30\r\n\r\n", id="a length in the trailer"),
    ],
)
async def test_chunks_that_are_none_end_the_connection_and_reach_nobody(meter, body):
    async with meter.connection() as (reader, writer):
        writer.write(CHUNKED + body + INNER)
        assert b" 200 " not in await reader.read()
    assert [head for head, _ in meter.behind.seen if b"smuggled" in head] == []


@pytest.mark.parametrize(
    "piece", [b"2;" + b"a" * 400_000, b"0\r\n" + b"x-a: b\r\n" * 50_000], ids=["extension", "trailer"]
)
async def test_what_follows_a_piece_of_a_body_without_end_is_cut(meter, piece):
    async with meter.connection() as (reader, writer):
        writer.write(CHUNKED + b"2\r\n{}\r\n" + piece)
        async with asyncio.timeout(0.9):
            with contextlib.suppress(ConnectionResetError):  # the rest was not read
                assert b" 200 " not in await reader.read()


async def test_extensions_and_trailers_are_not_passed_on(meter):
    trailer = b"host: other\r\nx-evil: 1\r\nx-request-id: evil\r\n"
    async with meter.connection() as (reader, writer):
        writer.write(CHUNKED + b"2;a=b\r\n{}\r\n0;c\r\n" + trailer + b"\r\n" + request("/score"))
        assert [(await read(reader)).body, (await read(reader)).body] == [b"{}", ANSWER]
    (head, body), _ = meter.behind.seen
    assert body == b"{}"
    assert b"evil" not in head
    assert b"other" not in head


# --- keys and limits


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "mobile").write_text("secret")
    return folder


async def test_no_spelling_of_a_path_needs_no_key(tmp_path, keys):
    paths = ("//score", "/%73core", "/x/../livez/../score", "/./score", "/meter/drained/../x", "/livez/", "/metrics/x")
    async with metered(tmp_path, AUTH_DIR=keys) as meter:
        for path, method in itertools.product(paths, ("POST", "GET", "DELETE")):
            assert (await meter.ask(path, b"{}", method=method)).status == 401, path
        assert meter.behind.seen == []


async def test_a_key_stays_here_whatever_connection_names(tmp_path, keys):
    fields = b"connection: x-api-key, authorization\r\n"
    async with metered(tmp_path, AUTH_DIR=keys) as meter, meter.connection() as (reader, writer):
        writer.write(HEAD + b"content-length: 2\r\n" + fields + b"\r\n{}")
        assert (await read(reader)).status == 401
        for name in (b"x-api-key: secret", b"authorization: Bearer secret"):
            writer.write(HEAD + b"content-length: 2\r\n" + name + b"\r\n" + fields + b"\r\n{}")
            assert (await read(reader)).status == 200
        assert all(b"secret" not in head for head, _ in meter.behind.seen)


async def test_a_key_in_a_trailer_is_none(tmp_path, keys):
    async with metered(tmp_path, AUTH_DIR=keys) as meter, meter.connection() as (reader, writer):
        writer.write(CHUNKED + b"2\r\n{}\r\n0\r\nx-api-key: secret\r\n\r\n")
        assert (await read(reader)).status == 401
        assert meter.behind.seen == []


async def test_no_spelling_of_a_path_passes_by_the_limit_of_a_key(tmp_path, keys):
    settings = {"AUTH_DIR": keys, "AUTH_LIMITS": "mobile:rate=0.01:burst=1", "METER_PREDICTION_PATHS": "/echo"}
    async with metered(tmp_path, **settings) as meter:
        assert (await meter.ask("/echo", x_api_key="secret")).status == 200
        for path in ("/%65cho", "//echo", "/x/../echo", "/./echo", "/echo/%2e", "/%65cho?a=1"):
            assert (await meter.ask(path, x_api_key="secret")).status == 429, path


async def test_a_key_does_not_reach_the_input_log(tmp_path, keys):
    log = {"INPUT_LOG_SAMPLE_RATE": 1, "INPUT_LOG_SINK": f"file://{tmp_path / 'log'}"}
    async with metered(tmp_path, AUTH_DIR=keys, **log) as meter:
        assert (await meter.ask("/echo", b'{"x": 1}', x_api_key="secret")).status == 200
    [file] = (tmp_path / "log").rglob("*.jsonl")
    assert "secret" not in file.read_text()


async def test_a_body_that_cannot_be_logged_takes_no_other_along(tmp_path):
    settings = {
        "INPUT_LOG_SAMPLE_RATE": 1,
        "INPUT_LOG_REDACT": "name",
        "INPUT_LOG_SINK": f"file://{tmp_path / 'log'}",
    }
    async with metered(tmp_path, **settings) as meter:
        for body in (b'{"x": 1}', b"[" * 1000 + b"]" * 1000, b"[" * 300 + b"]" * 300, b'{"x": 2}'):
            assert (await meter.ask("/echo", body)).status == 200
        text = await meter.shows(r"input_log_written_total\{[^}]*\} 2\.0")
        assert re.search(r"input_log_dropped_total\{[^}]*\} 2\.0", text)
    lines = [line for file in (tmp_path / "log").rglob("*.jsonl") for line in file.read_text().splitlines()]
    assert [json.loads(line)["inputs"] for line in lines] == [{"x": 1}, {"x": 2}]


# --- what is only metered


async def test_clients_that_wait_for_the_end_do_not_keep_kubelet_from_it(tmp_path):
    body = request("/meter/drained", None, method="GET")
    async with metered(tmp_path) as meter:
        others = [await asyncio.open_connection("127.0.0.1", meter.port) for _ in range(MOST_WAITING + 40)]
        for _, writer in others:
            writer.write(body)
        # The first ones make room for those that come later.
        for reader, _ in others[:40]:
            async with asyncio.timeout(10):
                assert (await read(reader)).status == 503
                assert await reader.read() == b""
        async with meter.connection() as (reader, writer):
            writer.write(body)
            async with asyncio.timeout(10):
                assert (await read(others[40][0])).status == 503
            await meter.ask("/score")
            meter.process.terminate()
            async with asyncio.timeout(10):
                assert (await read(reader)).body == b'{"phase":"drained"}'
        assert len(meter.behind.seen) == 1
        for _, writer in others:
            writer.close()


async def test_a_client_that_waits_for_100_before_feedback_gets_it(meter):
    async with meter.connection() as (reader, writer):
        writer.write(b"POST /feedback HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 20\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b'{"conversion": true}')
        assert (await read(reader)).status == 200


async def test_nothing_that_is_sent_becomes_a_name_of_a_metric(meter):
    label = 'a",evil="1'
    await meter.ask("/feedback", json.dumps({"prediction": label, "label": label, "id": label}).encode())
    await meter.ask(f"/echo?{'%22'}evil", b"{}", x_request_id=label, x_tenant=label)
    text = await meter.metrics()
    assert "evil" not in text


@pytest.mark.parametrize("path", ["/score", "/feedback"])
async def test_a_body_that_dawdles_is_a_408(meter, path):
    async with meter.connection() as (reader, writer):
        writer.write(f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n".encode())
        async with asyncio.timeout(6):
            assert (await read(reader)).status == 408


# --- what the server behind sends


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(b"HTTP/1.1 600 Odd\r\ncontent-length: 0\r\n\r\n", 502, id="a status over 599"),
        pytest.param(b"HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n", 504, id="a status below 100"),
        pytest.param(b"HTTP/1.1 103 Early\r\nlink: a\r\n\r\n" * 5000, 504, id="interim answers for ever"),
        pytest.param(b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", 502, id="a switch"),
        pytest.param(OK + b"a: b\r\n" * 30_000, 502, id="a head without end"),
        pytest.param(OK + b"a: " + b"b" * 100_000, 502, id="a field without end"),
        pytest.param(OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nabc", 502, id="two lengths"),
        pytest.param(OK + b"content-length: 9\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 502, id="CL.TE"),
        pytest.param(
            OK + b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            502,
            id="a coding in a field of its own",
        ),
        pytest.param(OK + b"x-a: b\r\n x-c: d\r\ncontent-length: 2\r\n\r\nab", 502, id="a folded line"),
        pytest.param(b"HTTP/1.1 200 OK\ncontent-length: 2\n\nab", 502, id="line feeds alone"),
        pytest.param(OK + b"connection: content-length\r\ncontent-length: 2\r\n\r\nab", 200, id="a length it hides"),
        pytest.param(
            b"HTTP/1.1 204 None\r\ncontent-length: 9\r\n\r\n" + OK + b"content-length: 6\r\n\r\npoison",
            204,
            id="a body where none may be",
        ),
        pytest.param(OK + b"content-length: 2\r\n\r\nabHTTP/1.1 403 Evil\r\nx-a: ", 200, id="half a second answer"),
    ],
)
async def test_an_answer_reaches_nobody_but_its_client(meter, raw, status):
    async def answer(writer: asyncio.StreamWriter, body: bytes) -> bool:
        writer.write(raw)
        return True

    meter.behind.answer_raw = answer
    async with meter.connection() as (reader, writer):
        async with asyncio.timeout(8):
            writer.write(request("/raw"))
            assert (await read(reader)).status == status
            for _ in range(2):
                writer.write(request("/score"))
                second = await read(reader)
                assert second.head.startswith(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\nx-request-id: ")
                assert second.body == ANSWER
    assert re.search(r"in_flight\S* 0\.0", await meter.metrics())


@pytest.mark.parametrize(
    "piece",
    [pytest.param(b"x-a: %b\r\n" % (b"b" * 1000), id="a trailer"), pytest.param(b"e" * 1000, id="an extension")],
)
async def test_what_follows_a_body_without_end_is_cut(meter, piece):
    sent = 0

    async def answer(writer: asyncio.StreamWriter, body: bytes) -> bool:
        nonlocal sent
        writer.write(OK + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n" + (b"0\r\n" if b":" in piece else b"2;"))
        while True:
            writer.write(piece)
            sent += len(piece)
            await writer.drain()
            await asyncio.sleep(0)

    meter.behind.answer_endless = answer
    async with asyncio.timeout(10):
        assert not (await meter.ask("/endless")).is_whole
    assert sent < 20 * 2**20


# --- what it costs


def megabytes(process: asyncio.subprocess.Process) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
    return int(found[1]) // 1024 if found else 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
async def test_floods_cost_no_memory_and_no_request_of_others(meter):
    async def endless(writer: asyncio.StreamWriter, body: bytes) -> bool:
        writer.write(OK + b"\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    meter.behind.answer_endless = endless
    before = megabytes(meter.process)
    waiting = HEAD + b"expect: 100-continue\r\ncontent-length: 1000000\r\n\r\n"
    floods = [waiting] * 100 + [request("/echo", None, method="GET") * 20_000] + [request("/endless")] * 5
    clients = [await asyncio.open_connection("127.0.0.1", meter.port, limit=1024) for _ in floods]
    for (_, writer), flood in zip(clients, floods, strict=True):
        writer.write(flood)
    await asyncio.gather(*(meter.ask("/feedback", b"[" * 200_000) for _ in range(50)))
    async with asyncio.timeout(2):
        assert (await meter.ask("/score")).status == 200
    assert megabytes(meter.process) - before < 40
    for _, writer in clients:
        writer.close()


@pytest.mark.parametrize("piece", [b"HTTP/1.1 100 Continue\r\n\r\n", b"a: b\r\n"], ids=["interim answers", "a head"])
async def test_a_server_that_drips_is_a_504(meter, piece):
    async def drip(writer: asyncio.StreamWriter, body: bytes) -> bool:
        writer.write(OK if piece.startswith(b"a") else piece)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.1)
        return False

    meter.behind.answer_drip = drip
    async with asyncio.timeout(4):
        assert (await meter.ask("/drip")).status == 504
