"""Real brokers for tests and benchmarks, on loopback, with a client that writes and reads messages."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from broker_base import Headers, Received, TestBroker
from free_ports import free_port
from kafka_brokers import KafkaMock, KafkaServer


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


BROKERS: dict[str, type[TestBroker]] = {
    "nats": NatsServer,
    "redis": RedisServer,
    "rabbitmq": RabbitServer,
    "kafka": KafkaMock if KafkaServer.missing() else KafkaServer,
}
