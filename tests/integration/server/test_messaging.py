"""A model behind each broker: the real server, the real broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from broker_base import Received, TestBroker
from brokers import BROKERS
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from stream_chaos import DEAD, INPUT, OUTPUT, made_up, settled, survive
from waiting import eventually

from model_server.errors import SettingsInvalid
from model_server.settings import read_settings

ANSWERED = 'modeldeploy_stream_messages_total{{model="wine",outcome="answered",revision="",version="3"}} {}.0'


#: Two brokers that start quickly; the others take the same tests in `make test-heavy`, and one of them each time.
QUICK = frozenset({"nats", "redis"})


@pytest.fixture(
    params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.heavy) for name in sorted(BROKERS)]
)
def kind(request) -> type[TestBroker]:
    found = BROKERS[request.param]
    if why := found.missing():
        pytest.skip(why)
    return found


@pytest.fixture
async def broker(kind, tmp_path_factory) -> AsyncIterator[TestBroker]:
    broker = kind(tmp_path_factory.mktemp(kind.scheme))
    await broker.start()
    await broker.create(INPUT, OUTPUT, DEAD)
    yield broker
    await broker.close()


@pytest.fixture
def lasting(broker) -> TestBroker:
    if not broker.keeps_messages:
        pytest.skip("this broker of the tests has everything in memory")
    return broker


def stream(broker, **more):
    topics = {"stream_input": INPUT, "stream_output": OUTPUT, "stream_dead_letter": DEAD}
    return {"name": "wine", "trusted": True, "stream_url": broker and broker.url, **topics, **more}


async def received(broker: TestBroker, topic: str, count: int) -> list[Received]:
    async def enough() -> list[Received]:
        found = await broker.receive(topic)
        return found if len(found) >= count else []

    return await eventually(enough, f"{count} messages in {topic}", seconds=40)


async def said(server, text: str) -> str:
    async def logged() -> str:
        return server.log.read_text() if text in server.log.read_text() else ""

    return await eventually(logged, lambda: f"{text} in {server.describe()}", seconds=30)


async def shows(server, line: str) -> None:
    async def shown() -> bool:
        return line in server.client.get("/metrics").text

    await eventually(shown, lambda: f"{line} in {server.client.get('/metrics').text}", seconds=30)


def body(rows) -> bytes:
    return json.dumps({"instances": rows}).encode()


@pytest.mark.parametrize("kind", sorted(BROKERS), indirect=True)
async def test_a_message_is_answered_as_a_request_is(broker, wine, serve):
    server = serve(wine.uri, **stream(broker)).wait_ready()
    rows = wine.rows[:20].tolist()
    await broker.send(INPUT, [(body([row]), {"x-request-id": f"m-{n}"}) for n, row in enumerate(rows)])
    answers = {one.headers["x-request-id"]: json.loads(one.body) for one in await received(broker, OUTPUT, 20)}
    plain = server.client.post("/predict", json={"instances": rows}).json()
    assert [answers[f"m-{n}"]["predictions"][0] for n in range(20)] == plain["predictions"]
    await shows(server, ANSWERED.format(20))
    # One request of the twenty-one came over HTTP.
    await shows(server, 'modeldeploy_requests_total{code="200",model="wine",revision="",version="3"} 21.0')
    await shows(server, 'modeldeploy_stream_connected{model="wine",revision="",version="3"} 1.0')
    await shows(server, 'modeldeploy_stream_lag{model="wine",revision="",version="3"} 0.0')
    label = {"id": "m-3", "label": answers["m-3"]["predictions"][0]}
    assert server.client.post("/feedback", json=label).status_code == 200


async def test_a_message_has_the_protocol_that_its_body_shows(broker, wine, serve):
    serve(wine.uri, **stream(broker)).wait_ready()
    data = {"instances": wine.rows[:1].tolist()}
    attributes = {"type": "t", "source": "/s", "id": "e-1", "specversion": "1.0", "datacontenttype": "application/json"}
    event = CloudEvent(attributes, data)
    binary, structured = to_binary_event(event), to_structured_event(event)
    tensor = {"name": "x", "shape": [1, 13], "datatype": "FP64", "data": wine.rows[:1].tolist()}
    await broker.send(
        INPUT,
        [
            (binary.body, dict(binary.headers)),
            (structured.body, {**structured.headers, "x-request-id": "structured"}),
            (json.dumps({"inputs": [tensor]}).encode(), {"x-request-id": "v2"}),
            (b'{"inputs": [{"datatype": 3}]}', {"x-request-id": "v2-fault"}),
        ],
    )
    answers = {one.headers["x-request-id"]: one for one in await received(broker, OUTPUT, 3)}
    # The id of a binary event is the message's, too.
    for name in ("e-1", "structured"):
        told = from_http_event(HTTPMessage(answers[name].headers, answers[name].body))
        assert told.get_type() == "io.kserve.inference.response"
        assert told.get_id() != "e-1"
    assert "ce-id" in answers["e-1"].headers
    assert json.loads(answers["v2"].body)["outputs"][0]["shape"] == [1]
    (fault,) = await received(broker, DEAD, 1)
    assert fault.headers["x-request-id"] == "v2-fault"


POISON = [
    pytest.param(b"{not json", "MalformedRequest", "400", None, id="what is not JSON"),
    pytest.param(b"", "MalformedRequest", "400", None, id="an empty message"),
    pytest.param(b"\xff\x00\x80", "MalformedRequest", "400", None, id="bytes"),
    pytest.param(body([["a"] * 13]), "InvalidInput", "422", "instances[0].alcohol", id="a value of another type"),
    pytest.param(b'{"rows": []}', "InvalidInput", "422", "rows", id="an unknown field"),
    pytest.param(b" " * 3000 + body([]), "RequestTooLarge", "413", None, id="more bytes than are read"),
]


async def test_what_cannot_be_answered_is_a_dead_letter_with_the_reason(broker, wine, serve):
    server = serve(wine.uri, max_request_bytes=2000, **stream(broker)).wait_ready()
    cases = [case.values for case in POISON]
    await broker.send(INPUT, [(case[0], {"x-request-id": f"m-{n}", "own": "kept"}) for n, case in enumerate(cases)])
    dead = {one.headers["x-request-id"]: one for one in await received(broker, DEAD, len(cases))}
    for n, (sent, reason, status, field) in enumerate(cases):
        letter = dead[f"m-{n}"]
        assert letter.body == sent
        assert letter.headers["own"] == "kept"
        assert letter.headers["x-modeldeploy-reason"] == reason
        assert letter.headers["x-modeldeploy-status"] == status
        assert letter.headers.get("x-modeldeploy-field") == field
        assert letter.headers["x-modeldeploy-source"] == INPUT
        assert letter.headers["x-modeldeploy-message"]
    line = 'modeldeploy_stream_dead_letters_total{{model="wine",reason="{}",revision="",version="3"}} {}.0'
    await shows(server, line.format("MalformedRequest", 3))
    await shows(server, line.format("InvalidInput", 2))
    await shows(server, 'modeldeploy_refusals_total{model="wine",reason="InvalidInput",revision="",version="3"} 2.0')
    await broker.send(INPUT, [(body(wine.rows[:1].tolist()), {"x-request-id": "after"})])
    assert (await received(broker, OUTPUT, 1))[0].headers["x-request-id"] == "after"


MOODY = """
def load_model(path): return 1
def predict(model, inputs):
    if (inputs[:, 0] < 0).any(): raise RuntimeError("a negative number")
    return ["x" * int(n) for n in inputs[:, 0]]
"""


@pytest.fixture
def moody(tmp_path) -> str:
    """Fails for negative numbers, and answers others with so long a text."""
    folder = tmp_path / "moody"
    folder.mkdir()
    (folder / "model.py").write_text(MOODY)
    (folder / "model.yaml").write_text(
        "input_features: [{name: a, example: 1}]\noutput_features: [{name: b, dtype: string}]\n"
    )
    return f"file://{folder}"


async def test_a_failing_message_is_tried_again_so_often_and_no_more(broker, moody, serve):
    server = serve(moody, stream_max_deliveries=3, **stream(broker)).wait_ready()
    await broker.send(INPUT, [(body([[-1]]), {"x-request-id": "bad"}), (body([[2]]), {"x-request-id": "good"})])
    (answer,) = await received(broker, OUTPUT, 1)
    assert answer.headers["x-request-id"] == "good"
    (letter,) = await received(broker, DEAD, 1)
    assert letter.headers["x-modeldeploy-reason"] == "PredictionError"
    assert letter.headers["x-modeldeploy-status"] == "500"
    await shows(server, 'modeldeploy_stream_retries_total{model="wine",revision="",version=""} 2.0')


async def test_an_answer_that_the_broker_does_not_take_is_a_dead_letter(lasting, moody, serve):
    broker = lasting
    serve(moody, **stream(broker)).wait_ready()
    await broker.send(INPUT, [(body([[1_500_000]]), {"x-request-id": "long"}), (body([[2]]), {"x-request-id": "next"})])
    (letter,) = await received(broker, DEAD, 1)
    assert letter.headers["x-modeldeploy-reason"] == "AnswerTooLarge"
    assert letter.body == body([[1_500_000]])
    (answer,) = await received(broker, OUTPUT, 1)
    assert answer.headers["x-request-id"] == "next"


async def test_no_message_is_lost_with_a_killed_server(broker, wine, serve):
    first = serve(wine.uri, **stream(broker)).wait_ready()
    sent = made_up(wine.rows.tolist(), 2000)
    sending = asyncio.create_task(broker.send(INPUT, sent))
    await received(broker, OUTPUT, 200)
    os.killpg(first.process.pid, signal.SIGKILL)
    await sending
    serve(wine.uri, **stream(broker)).wait_ready()
    found = await settled(broker, len(sent))
    assert found.lost == 0
    assert found.dead == 20
    assert found.marked == found.copies


async def test_a_broker_that_dies_and_comes_back_costs_no_message_and_no_readiness(lasting, wine, serve):
    broker = lasting
    server = serve(wine.uri, **stream(broker)).wait_ready()
    sent = made_up(wine.rows.tolist(), 2000)
    await broker.send(INPUT, sent)
    broker.kill()
    await shows(server, 'modeldeploy_stream_connected{model="wine",revision="",version="3"} 0.0')
    await said(server, "BrokerUnavailable")
    await shows(
        server, 'modeldeploy_stream_problem{model="wine",reason="BrokerUnavailable",revision="",version="3"} 1.0'
    )
    assert server.phase() == "ready"
    assert server.client.post("/predict", json={"instances": wine.rows[:1].tolist()}).status_code == 200
    await broker.start()
    found = await settled(broker, len(sent))
    assert found.lost == 0
    assert found.dead == 20
    assert found.marked == found.copies


class Serving:
    """A model server as `survive` has it."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start = start

    def start(self) -> None:
        self._server = self._start()

    def kill(self) -> None:
        os.killpg(self._server.process.pid, signal.SIGKILL)
        self._server.process.wait()

    def metric(self, start: str) -> float:
        try:
            lines = self._server.client.get("/metrics").text.splitlines()
        except httpx.TransportError:
            return 0.0
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))


@pytest.mark.heavy
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kind", sorted(BROKERS), indirect=True)
async def test_none_of_100000_messages_is_lost_with_server_and_broker(broker, wine, serve):
    sent = made_up(wine.rows.tolist(), 100_000)
    found = await survive(broker, Serving(lambda: serve(wine.uri, **stream(broker))), sent)
    assert (found.lost, found.dead) == (0, 1000)
    assert found.marked == found.copies


async def test_the_workers_of_a_server_share_the_messages(broker, wine, serve):
    server = serve(wine.uri, workers=2, **stream(broker)).wait_ready()
    sent = made_up(wine.rows.tolist(), 500)
    await broker.send(INPUT, sent)
    found = await settled(broker, len(sent))
    assert (found.lost, found.dead) == (0, 5)
    # Kafka shares partitions anew when the second worker comes.
    assert found.marked == found.copies
    if not found.copies:
        await shows(server, ANSWERED.format(495))


async def test_a_draining_server_answers_what_it_has_taken(broker, wine, serve):
    first = serve(wine.uri, **stream(broker)).wait_ready()
    sent = made_up(wine.rows.tolist(), 3000)
    await broker.send(INPUT, sent)
    await received(broker, OUTPUT, 1)
    assert first.terminate() == 0
    serve(wine.uri, **stream(broker)).wait_ready()
    found = await settled(broker, len(sent))
    assert (found.lost, found.copies) == (0, 0)


async def test_a_revision_without_a_share_of_the_traffic_does_not_consume(broker, wine, serve, tmp_path):
    revisions = tmp_path / "revisions"
    revisions.write_text("old\n")
    server = serve(wine.uri, revision="new", **stream(broker, stream_revisions=revisions)).wait_ready()
    await broker.send(INPUT, made_up(wine.rows.tolist(), 10))
    assert "modeldeploy_stream_connected{" not in server.client.get("/metrics").text
    assert "consuming" not in server.log.read_text()
    revisions.write_text("old\nnew\n")
    assert all(one.headers["x-modeldeploy-revision"] == "new" for one in await received(broker, OUTPUT, 9))
    revisions.write_text("old\n")

    async def waits() -> bool:
        return "modeldeploy_stream_connected{" not in server.client.get("/metrics").text

    await eventually(waits, seconds=20)


async def test_a_broker_that_is_away_is_waited_for(kind, wine, serve, tmp_path_factory):
    if not kind.keeps_messages:
        pytest.skip("this broker of the tests has no address before it starts")
    broker = kind(tmp_path_factory.mktemp(kind.scheme))
    server = serve(wine.uri, **stream(broker)).wait_ready()
    log = await said(server, "BrokerUnavailable")
    assert "does not answer" in log
    await broker.start()
    await broker.create(INPUT, OUTPUT, DEAD)
    await broker.send(INPUT, made_up(wine.rows.tolist(), 5))
    await received(broker, OUTPUT, 4)
    assert server.log.read_text().count("BrokerUnavailable") < 5
    await broker.close()


@pytest.fixture
async def bare(kind, tmp_path_factory) -> AsyncIterator[TestBroker]:
    """A broker without topics."""
    broker = kind(tmp_path_factory.mktemp(kind.scheme))
    await broker.start()
    yield broker
    await broker.close()


MISSING = {
    "nats": "no stream of JetStream has the subject 'wine.requests'",
    "amqp": "there is no queue 'wine.requests'",
    "kafka": "there is no topic 'wine.requests'",
}


async def test_a_topic_that_does_not_exist_is_named_and_waited_for(bare, wine, serve):
    server = serve(wine.uri, **stream(bare)).wait_ready()
    if bare.scheme == "redis":
        # A stream of Redis has no settings that somebody has to choose: it is made.
        await said(server, "consuming")
        assert await bare.client.type(INPUT) == b"stream"
    else:
        log = await said(server, "TopicMissing")
        assert MISSING[bare.scheme] in log
        assert server.phase() == "ready"
        await bare.create(INPUT, OUTPUT, DEAD)
    await bare.send(INPUT, [(body(wine.rows[:1].tolist()), {"x-request-id": "first"})])
    assert (await received(bare, OUTPUT, 1))[0].headers["x-request-id"] == "first"


LOGINS = {
    "nats": {"configuration": "authorization: {user: model, password: right}"},
    "redis": {"options": ("--requirepass", "right")},
    "rabbitmq": {},
    "kafka": {
        "protocol": "SASL_PLAINTEXT",
        "properties": {
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.clients.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule"
            ' required user_model="right";',
        },
    },
}


@pytest.mark.parametrize("name", sorted(LOGINS))
async def test_wrong_credentials_are_told_and_not_shown(name, wine, serve, tmp_path, tmp_path_factory):
    kind = BROKERS[name]
    if why := kind.missing() or ("" if kind.has_logins else "the mock cluster has no users"):
        pytest.skip(why)
    broker = kind(tmp_path_factory.mktemp(name))
    for option, value in LOGINS[name].items():
        setattr(broker, option, value)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "username").write_text("model" if name != "redis" else "default")
    (secret / "password").write_text("wrong-one\n")
    broker.spawn()
    try:
        server = serve(wine.uri, **stream(broker, stream_credentials_dir=secret)).wait_ready()
        log = await said(server, "BrokerRefused")
        assert str(secret) in log
        assert "wrong-one" not in log
        assert server.phase() == "ready"
    finally:
        broker.kill()


@pytest.mark.parametrize(
    ("module", "url", "extra"),
    [
        ("nats", "nats://h:1", "server-stream-nats"),
        ("redis", "redis://h:1", "server-stream-redis"),
        ("aio_pika", "amqp://h:1", "server-stream-rabbitmq"),
        ("aiokafka", "kafka://h:1", "server-stream-kafka"),
    ],
)
def test_a_missing_client_is_named_with_its_extra(module, url, extra, wine, tmp_path):
    start = f"import sys; sys.modules[{module!r}] = None; from model_server.__main__ import main; sys.exit(main())"
    given = {"storage_uri": wine.uri, "port": 0, "termination_log": tmp_path / "end", **stream(None, stream_url=url)}
    environ = {**os.environ, **{f"MODEL_SERVER_{name.upper()}": str(value) for name, value in given.items()}}
    done = subprocess.run([sys.executable, "-c", start], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    end = json.loads((tmp_path / "end").read_text())
    assert (end["reason"], end["hint"]) == ("DependencyMissing", f"Install modeldeploy[{extra}].")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"stream_output": ""}, "MODEL_SERVER_STREAM_OUTPUT is missing", id="no topic for answers"),
        pytest.param({"stream_output": INPUT}, "not three different topics", id="answers to the own messages"),
        pytest.param({"stream_input": "wine.>"}, "MODEL_SERVER_STREAM_INPUT", id="all topics at once"),
        pytest.param({"stream_url": "nats://u:p@h:4222"}, "MODEL_SERVER_STREAM_URL", id="credentials in the address"),
        pytest.param({"stream_url": "mqtt://h:1883"}, "MODEL_SERVER_STREAM_URL", id="another broker"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    topics = {"stream_input": INPUT, "stream_output": OUTPUT, "stream_dead_letter": DEAD}
    given = {"storage_uri": "file:///m", "stream_url": "nats://h:4222", **topics, **settings}
    with pytest.raises(SettingsInvalid, match=message):
        read_settings({f"MODEL_SERVER_{name.upper()}": value for name, value in given.items()})


@pytest.mark.skipif(bool(BROKERS["redis"].missing()), reason="redis-server is not installed")
async def test_redis_does_not_forget_a_message_whose_answer_it_cannot_add(wine, serve, tmp_path_factory):
    broker = BROKERS["redis"](tmp_path_factory.mktemp("redis"))
    await broker.start()
    try:
        server = serve(wine.uri, **stream(broker)).wait_ready()
        await said(server, "consuming")
        await broker.client.set(OUTPUT, "somebody's")
        await broker.send(INPUT, made_up(wine.rows.tolist(), 3)[1:])
        log = await said(server, "TopicMissing")
        assert "another type" in log or "is no stream" in log
        await broker.client.delete(OUTPUT)
        assert len(await received(broker, OUTPUT, 2)) == 2
    finally:
        await broker.close()
