"""What only Kafka has: transactions, topics that go, limits of a topic, partitions that change hands.

They run where a distribution of Kafka, or what is started as its `kafka-server-start.sh`, has its bin/ in PATH.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from kafka_brokers import KafkaServer
from stream_chaos import DEAD, INPUT, OUTPUT, made_up, settled
from waiting import eventually

from model_server.messaging.kafka_producer import INVALID_RECORD

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(bool(KafkaServer.missing()), reason="no Kafka in PATH"),
]
SMALL = "wine.small"


@pytest.fixture
async def kafka(tmp_path_factory) -> AsyncIterator[KafkaServer]:
    broker = KafkaServer(tmp_path_factory.mktemp("kafka"))
    await broker.start()
    await broker.create(INPUT, OUTPUT, DEAD)
    yield broker
    await broker.close()


@pytest.fixture
async def admin(kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(**kafka.options())
    await client.start()
    yield client
    await client.close()


def stream(broker, **more):
    topics = {"stream_input": INPUT, "stream_output": OUTPUT, "stream_dead_letter": DEAD}
    return {"name": "wine", "trusted": True, "stream_url": broker.url, **topics, **more}


async def shows(server, line: str) -> None:
    async def shown() -> bool:
        return line in server.client.get("/metrics").text

    await eventually(shown, lambda: f"{line} in {server.client.get('/metrics').text}", seconds=40)


LAG = 'modeldeploy_stream_lag{{model="wine",revision="",version="3"}} {}.0'


async def test_an_aborted_message_is_not_answered_and_a_transaction_leaves_no_lag(kafka, wine, serve):
    body = json.dumps({"instances": wine.rows[:1].tolist()}).encode()
    server = serve(wine.uri, **stream(kafka)).wait_ready()
    producer = AIOKafkaProducer(**kafka.options(), transactional_id="t")
    await producer.start()
    try:
        for aborts in (True, False, True):
            await producer.begin_transaction()
            await producer.send_and_wait(INPUT, body, headers=[("x-request-id", b"aborted" if aborts else b"sent")])
            await (producer.abort_transaction() if aborts else producer.commit_transaction())
    finally:
        await producer.stop()

    async def answered() -> bool:
        return bool(await kafka.receive(OUTPUT))

    await eventually(answered, server.describe, seconds=40)
    await shows(server, LAG.format(0))
    assert [one.headers["x-request-id"] for one in await kafka.receive(OUTPUT)] == ["sent"]


async def test_a_topic_that_is_deleted_is_told_and_its_successor_read(kafka, admin, wine, serve):
    server = serve(wine.uri, **stream(kafka)).wait_ready()
    await kafka.send(INPUT, made_up(wine.rows.tolist(), 50))
    assert (await settled(kafka, 50)).lost == 0
    await admin.delete_topics([INPUT])
    await shows(server, 'modeldeploy_stream_problem{model="wine",reason="TopicMissing",revision="",version="3"} 1.0')
    await admin.create_topics([NewTopic(INPUT, 2, 1)])
    await kafka.connect()
    body = json.dumps({"instances": wine.rows[:1].tolist()}).encode()
    await kafka.send(INPUT, [(body, {"x-request-id": "successor"})])

    async def answered() -> bool:
        return "successor" in {one.headers["x-request-id"] for one in await kafka.receive(OUTPUT)}

    await eventually(answered, server.describe, seconds=60)


async def test_a_topic_that_takes_less_than_a_batch_gets_each_answer(kafka, admin, wine, serve):
    await admin.create_topics([NewTopic(SMALL, 1, 1, topic_configs={"max.message.bytes": "3000"})])
    serve(wine.uri, **stream(kafka, stream_output=SMALL)).wait_ready()
    body = json.dumps({"instances": wine.rows[:1].tolist()}).encode()
    await kafka.send(INPUT, [(body, {"x-request-id": f"m-{n}"}) for n in range(500)])

    async def answered() -> bool:
        return len({one.headers["x-request-id"] for one in await kafka.receive(SMALL)}) == 500

    await eventually(answered, seconds=60)
    assert len(await kafka.receive(SMALL)) == 500
    assert not await kafka.receive(DEAD)


async def test_an_answer_without_a_key_for_a_compacted_topic_is_a_dead_letter_that_says_why(kafka, admin, wine, serve):
    await admin.create_topics([NewTopic(SMALL, 1, 1, topic_configs={"cleanup.policy": "compact"})])
    with suppress(INVALID_RECORD):
        await kafka.producer.send_and_wait(SMALL, b"no key")
        pytest.skip("this broker takes messages without a key for a compacted topic")
    serve(wine.uri, **stream(kafka, stream_output=SMALL)).wait_ready()
    body = json.dumps({"instances": wine.rows[:1].tolist()}).encode()
    for key in (None, b"k"):
        await kafka.producer.send_and_wait(INPUT, body, key=key, headers=[("x-request-id", str(key).encode())])

    async def ended() -> bool:
        return bool(await kafka.receive(SMALL) and await kafka.receive(DEAD))

    await eventually(ended, seconds=60)
    (answer,), (letter,) = await kafka.receive(SMALL), await kafka.receive(DEAD)
    assert answer.headers["x-request-id"] == "b'k'"
    assert (letter.headers["x-request-id"], letter.headers["x-modeldeploy-reason"]) == ("None", "AnswerRefused")
    said = letter.headers["x-modeldeploy-message"]
    assert "without a key for the topic 'wine.small'" in said
    assert "or set cleanup.policy=delete" in said


async def test_a_consumer_that_comes_and_goes_costs_no_message_and_no_order(kafka, wine, serve):
    serve(wine.uri, **stream(kafka, revision="a")).wait_ready()
    rows = wine.rows.tolist()
    for start in range(0, 3000, 1000):
        bodies = [json.dumps({"instances": [rows[n % len(rows)]]}).encode() for n in range(start, start + 1000)]
        headers = [{"x-request-id": f"m-{n}", "key": f"k-{n % 40}"} for n in range(start, start + 1000)]
        await kafka.send(INPUT, list(zip(bodies, headers, strict=True)))
        if start == 0:
            other = serve(wine.uri, **stream(kafka, revision="b")).wait_ready()
        elif start == 1000:
            other.terminate()
    found = await settled(kafka, 3000)
    assert (found.lost, found.dead) == (0, 0)
    assert found.marked == found.copies
    last: dict[int, int] = {}
    for one in await kafka.receive(OUTPUT):
        number = int(one.headers["x-request-id"][2:])
        if "x-modeldeploy-redelivered" not in one.headers:
            assert last.get(number % 40, -1) < number
            last[number % 40] = number
