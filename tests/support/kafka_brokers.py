"""Kafka for the tests: the mock cluster of librdkafka, and Kafka itself where a distribution is at hand."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from broker_base import Headers, Received, TestBroker
from free_ports import free_port


class Kafka(TestBroker):
    """What Kafka's protocol needs, whoever speaks it."""

    scheme = "kafka"

    @property
    def bootstrap(self) -> str:
        return f"{self.host}:{self.port}"

    def options(self) -> dict[str, Any]:
        """Those of a client, for each of its connections."""
        return {"bootstrap_servers": self.bootstrap}

    async def connect(self, **login: Any) -> None:
        from aiokafka import AIOKafkaProducer

        await self.disconnect()
        self.producer = AIOKafkaProducer(**self.options(), **login, enable_idempotence=True, acks="all")
        await self.producer.start()

    async def disconnect(self) -> None:
        if producer := getattr(self, "producer", None):
            await producer.stop()

    async def send(self, topic: str, messages: Sequence[tuple[bytes, Headers]]) -> None:
        for start in range(0, len(messages), 500):
            sent = [
                await self.producer.send(
                    topic,
                    body,
                    key=(headers.get("key") or headers.get("x-request-id", "")).encode() or None,
                    headers=[(name, value.encode()) for name, value in headers.items()],
                )
                for body, headers in messages[start : start + 500]
            ]
            await asyncio.gather(*sent)

    async def receive(self, topic: str) -> list[Received]:
        from aiokafka import AIOKafkaConsumer, TopicPartition

        reader = AIOKafkaConsumer(**self.options(), auto_offset_reset="earliest")
        await reader.start()
        found: list[Received] = []
        try:
            parts = [TopicPartition(topic, number) for number in await self.producer.partitions_for(topic)]
            ends = await reader.end_offsets(parts)
            reader.assign(parts)
            await reader.seek_to_beginning(*parts)
            while len(found) < sum(ends.values()):
                for records in (await reader.getmany(timeout_ms=500)).values():
                    for one in records:
                        headers = {name.replace("ce_", "ce-"): value.decode() for name, value in one.headers}
                        found.append(Received(one.value, headers))
        finally:
            await reader.stop()
        return found


class KafkaMock(Kafka):
    """The cluster that librdkafka's authors test their client with: Kafka's protocol, in memory, in one process."""

    program = "confluent-kafka"
    keeps_messages = False
    has_logins = False

    @classmethod
    def missing(cls) -> str:
        return "" if importlib.util.find_spec("confluent_kafka") else "confluent-kafka is not installed"

    def command(self) -> Sequence[str]:
        return (sys.executable, str(Path(__file__).with_name("kafka_mock.py")), str(self.folder / "bootstrap"))

    @property
    def bootstrap(self) -> str:
        return (self.folder / "bootstrap").read_text()

    @property
    def url(self) -> str:
        where = self.bootstrap if (self.folder / "bootstrap").exists() else f"127.0.0.1:{self.port}"
        return f"{self.scheme}://{where}"

    async def create(self, *topics: str) -> None:
        for topic in topics:
            await self.producer.partitions_for(topic)


class KafkaServer(Kafka):
    """Kafka itself, one node of KRaft, from a distribution whose bin/ is in PATH."""

    program = "kafka-server-start.sh"
    #: Of `server.properties`, besides those that every test needs.
    properties: Mapping[str, str] = {}
    protocol = "PLAINTEXT"

    def command(self) -> Sequence[str]:
        path, file = self.path(), self.folder / "server.properties"
        assert path
        if not file.exists():
            controller, internal = free_port(), free_port()
            # Between brokers without TLS and users: Kafka does not start with certificates that are wrong for itself.
            listeners = f"CLIENTS://{self.host}:{self.port},INTERNAL://{self.host}:{internal}"
            given = {
                "process.roles": "broker,controller",
                "node.id": "1",
                "controller.quorum.voters": f"1@{self.host}:{controller}",
                "controller.listener.names": "CONTROLLER",
                "listeners": f"{listeners},CONTROLLER://{self.host}:{controller}",
                "advertised.listeners": listeners,
                "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT,CLIENTS:{self.protocol}",
                "inter.broker.listener.name": "INTERNAL",
                "log.dirs": str(self.folder / "data"),
                "auto.create.topics.enable": "false",
                "num.partitions": "4",
                "message.max.bytes": "200000",
                "offsets.topic.replication.factor": "1",
                "transaction.state.log.replication.factor": "1",
                "transaction.state.log.min.isr": "1",
                "group.initial.rebalance.delay.ms": "0",
                **self.properties,
            }
            file.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
            storage = (str(Path(path).with_name("kafka-storage.sh")), "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk")
            subprocess.run((*storage, "-c", str(file)), env=self.environment(), check=True, capture_output=True)
        return (path, str(file))

    def environment(self) -> dict[str, str]:
        return {**os.environ, "LOG_DIR": str(self.folder / "log"), "KAFKA_HEAP_OPTS": "-Xmx512m -Xms512m"}

    async def create(self, *topics: str) -> None:
        from aiokafka.admin import AIOKafkaAdminClient, NewTopic

        admin = AIOKafkaAdminClient(**self.options())
        await admin.start()
        try:
            await admin.create_topics([NewTopic(topic, 4, 1) for topic in topics])
        finally:
            await admin.close()
        for topic in topics:
            await self.producer.partitions_for(topic)
