"""Real brokers for tests and benchmarks, on loopback, with a client that writes and reads messages."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from free_ports import free_port

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Received:
    """A message as another program reads it."""

    body: bytes
    headers: dict[str, str]


class TestBroker(ABC):
    """One broker; `kill` and `start` again keep what it has on disk."""

    __test__ = False
    scheme: str
    program: str
    #: Whether what it has survives a kill.
    keeps_messages = True

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.folder, self.host = folder, host
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.received: dict[str, list[Received]] = {}

    @classmethod
    def missing(cls) -> str:
        """Why tests with this broker are skipped; empty where it is installed."""
        return "" if cls.path() else f"{cls.program} is not installed"

    @classmethod
    def path(cls) -> str | None:
        return shutil.which(cls.program) or shutil.which(cls.program, path="/usr/sbin")

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    @abstractmethod
    def command(self) -> Sequence[str]: ...

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self.spawn()
        await self._until_it_answers()

    def spawn(self) -> None:
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self.environment(),
                start_new_session=True,
            )

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    async def _until_it_answers(self) -> None:
        for _ in range(600):
            try:
                await self.connect()
                return
            except Exception:
                await asyncio.sleep(0.05)
        raise AssertionError(f"{self.program} does not answer: {(self.folder / 'broker.log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            # With its children: RabbitMQ is a script that starts Erlang.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
            self.killed()

    def killed(self) -> None:  # noqa: B027 - most leave nothing behind
        """The processes have ended; what they left running ends here."""

    async def close(self) -> None:
        with suppress(Exception):
            await self.disconnect()
        self.kill()

    @abstractmethod
    async def connect(self) -> None: ...

    @abstractmethod
    async def disconnect(self) -> None: ...

    @abstractmethod
    async def create(self, *topics: str) -> None: ...

    @abstractmethod
    async def send(self, topic: str, messages: Sequence[tuple[bytes, Headers]]) -> None: ...

    @abstractmethod
    async def receive(self, topic: str) -> list[Received]:
        """Everything that is in a topic now, which stays there."""


class NatsServer(TestBroker):
    scheme, program = "nats", "nats-server"
    configuration = ""

    def command(self) -> Sequence[str]:
        config = self.folder / "nats.conf"
        config.write_text(f"max_payload: 200000\n{self.configuration}")
        path = self.path()
        assert path
        where = ("-a", self.host, "-p", str(self.port), "-sd", str(self.folder))
        return (path, "-js", "-c", str(config), *where)

    async def connect(self, **login: Any) -> None:
        import nats

        await self.disconnect()
        self.client = await nats.connect(
            self.url, allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0, **login
        )
        self.jetstream = self.client.jetstream(timeout=10)
        await self.jetstream.account_info()

    async def disconnect(self) -> None:
        if client := getattr(self, "client", None):
            await client.close()

    async def create(self, *topics: str) -> None:
        for topic in topics:
            await self.jetstream.add_stream(name=topic.replace(".", "_"), subjects=[topic])

    async def send(self, topic: str, messages: Sequence[tuple[bytes, Headers]]) -> None:
        for start in range(0, len(messages), 500):
            part = messages[start : start + 500]
            await asyncio.gather(*(self.jetstream.publish(topic, body, headers=dict(h) or None) for body, h in part))

    async def receive(self, topic: str) -> list[Received]:
        info = await self.jetstream.stream_info(topic.replace(".", "_"))
        found: list[Received] = []
        reader = await self.jetstream.subscribe(topic, ordered_consumer=True)
        while len(found) < info.state.messages:
            one = await reader.next_msg(timeout=10)
            found.append(Received(one.data, {k.lower(): v for k, v in (one.headers or {}).items()}))
        await reader.unsubscribe()
        return found


class RedisServer(TestBroker):
    scheme, program = "redis", "redis-server"
    options: Sequence[str] = ()

    def command(self) -> Sequence[str]:
        path = self.path()
        assert path
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        return (path, *where, "--appendonly", "yes", "--save", "", "--proto-max-bulk-len", "1mb", *self.options)

    async def connect(self, **login: Any) -> None:
        from redis.asyncio import Redis

        await self.disconnect()
        self.client = Redis(port=self.port, **login)
        await self.client.ping()

    async def disconnect(self) -> None:
        if client := getattr(self, "client", None):
            await client.aclose()

    async def create(self, *topics: str) -> None:
        """Streams begin with their first entry."""

    async def send(self, topic: str, messages: Sequence[tuple[bytes, Headers]]) -> None:
        for start in range(0, len(messages), 500):
            async with self.client.pipeline(transaction=False) as pipe:
                for body, headers in messages[start : start + 500]:
                    fields: dict[Any, Any] = {"body": body, **headers}
                    pipe.xadd(topic, fields)
                await pipe.execute()

    async def receive(self, topic: str) -> list[Received]:
        found: list[Received] = []
        after = "-"
        while entries := await self._entries(topic, after):
            for _, fields in entries:
                headers = {name.decode(): value.decode() for name, value in fields.items() if name != b"body"}
                found.append(Received(fields.get(b"body", b""), headers))
            after = f"({entries[-1][0].decode()}"
        return found

    async def _entries(self, topic: str, after: str) -> Any:
        return await self.client.xrange(topic, min=after, count=1000)


class RabbitServer(TestBroker):
    scheme, program = "amqp", "rabbitmq-server"
    plugins = ""

    @classmethod
    def path(cls) -> str | None:
        """Not Debian's wrapper, which becomes the user rabbitmq, who may not write here."""
        return shutil.which(cls.program, path="/usr/lib/rabbitmq/bin") or super().path()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.node = f"t{self.port}@localhost"
        self.dist, self.epmd_port = free_port(), free_port()

    def command(self) -> Sequence[str]:
        path = self.path()
        assert path
        (self.folder / "rabbitmq.conf").write_text(
            f"{self.listener()}\nmax_message_size = 200000\nloopback_users = none\nmanagement.tcp.ip = 127.0.0.1\n"
        )
        (self.folder / "enabled_plugins").write_text(f"[{self.plugins}].")
        return (path,)

    def listener(self) -> str:
        return f"listeners.tcp.1 = 127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        folder = str(self.folder)
        own = {
            "NODENAME": self.node,
            "MNESIA_BASE": f"{folder}/mnesia",
            "LOG_BASE": f"{folder}/log",
            "CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "PID_FILE": f"{folder}/pid",
            "DIST_PORT": str(self.dist),
        }
        # A port mapper of its own, on loopback, that ends with it.
        erlang = {"ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": str(self.epmd_port), "HOME": folder}
        return {**os.environ, **{f"RABBITMQ_{name}": value for name, value in own.items()}, **erlang}

    def killed(self) -> None:
        """Erlang's port mapper is a daemon that outlives the node."""
        words = ("epmd", "-port", str(self.epmd_port), "-kill")
        for _ in range(50):
            if b"Killed" in subprocess.run(words, capture_output=True).stdout:
                return
            time.sleep(0.1)

    async def connect(self, **login: Any) -> None:
        import aio_pika

        await self.disconnect()
        self.connection = await aio_pika.connect(self.url + "/", **login)
        self.channel = await self.connection.channel()

    async def disconnect(self) -> None:
        if connection := getattr(self, "connection", None):
            await connection.close()

    async def create(self, *topics: str) -> None:
        for topic in topics:
            await self.channel.declare_queue(topic, durable=True, arguments={"x-queue-type": "quorum"})

    async def send(self, topic: str, messages: Sequence[tuple[bytes, Headers]]) -> None:
        import aio_pika

        def message(body: bytes, headers: Headers) -> aio_pika.Message:
            kind = headers.get("content-type")
            return aio_pika.Message(body, headers=dict(headers), content_type=kind, delivery_mode=2)

        for start in range(0, len(messages), 500):
            part = messages[start : start + 500]
            exchange = self.channel.default_exchange
            await asyncio.gather(*(exchange.publish(message(body, h), routing_key=topic) for body, h in part))

    async def receive(self, topic: str) -> list[Received]:
        """RabbitMQ has no way to look without taking: what was taken is remembered."""
        known = self.received.setdefault(topic, [])
        queue = await self.channel.get_queue(topic, ensure=False)
        while (one := await queue.get(no_ack=True, fail=False)) is not None:
            headers = {name.lower().replace("cloudevents:", "ce-"): str(v) for name, v in one.headers.items()}
            if one.content_type:
                headers["content-type"] = one.content_type
            known.append(Received(one.body, headers))
        return list(known)


class KafkaMock(TestBroker):
    """The cluster that librdkafka's authors test their client with: Kafka's protocol, in memory, in one process."""

    scheme, program = "kafka", "confluent-kafka"
    keeps_messages = False

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

    async def connect(self, **login: Any) -> None:
        from aiokafka import AIOKafkaProducer

        await self.disconnect()
        self.producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, enable_idempotence=True, acks="all")
        await self.producer.start()

    async def disconnect(self) -> None:
        if producer := getattr(self, "producer", None):
            await producer.stop()

    async def create(self, *topics: str) -> None:
        for topic in topics:
            await self.producer.partitions_for(topic)

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

        reader = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
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


BROKERS: dict[str, type[TestBroker]] = {
    "nats": NatsServer,
    "redis": RedisServer,
    "rabbitmq": RabbitServer,
    "kafka": KafkaMock,
}
