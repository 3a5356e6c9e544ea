"""The brokers of `brokers.py` with TLS, which want a certificate of their clients."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from broker_base import TestBroker
from brokers import NatsServer, RabbitServer, RedisServer
from free_ports import free_port
from kafka_brokers import KafkaMock, KafkaServer
from tls_front import Authority

HOST = "127.0.0.1"


class Certificates:
    """Those of a broker and of its clients: the files of one authority, in a folder."""

    def __init__(self, folder: Path, *, hosts: tuple[str, ...] = (HOST,), age: int = 1) -> None:
        folder.mkdir(parents=True)
        authority = Authority(folder)
        self.authority = authority.certificate
        self.certificate, self.key = authority.issue("broker", hosts=hosts, age=age)
        # The name is RabbitMQ's user.
        self.client = authority.issue("guest")

    def secret(self, folder: Path, *names: str) -> Path:
        """Write a Secret as cert-manager does, with these keys or with all."""
        folder.mkdir(parents=True, exist_ok=True)
        files = {"ca.crt": self.authority, "tls.crt": self.client[0], "tls.key": self.client[1]}
        for name in names or tuple(files):
            (folder / name).write_bytes(files[name].read_bytes())
        return folder

    def context(self) -> ssl.SSLContext:
        """That of a client."""
        context = ssl.create_default_context(cafile=self.authority)
        context.load_cert_chain(*self.client)
        return context


class Encrypted(TestBroker):
    """What the four have in common; `certificates` are set before it starts."""

    certificates: Certificates


class EncryptedNats(Encrypted, NatsServer):
    scheme = "tls"

    def command(self) -> Sequence[str]:
        files = self.certificates
        self.configuration = (
            f'tls {{cert_file: "{files.certificate}", key_file: "{files.key}", ca_file: "{files.authority}",'
            " verify: true, timeout: 5}"
        )
        return super().command()

    async def connect(self, **login: Any) -> None:
        await super().connect(tls=self.certificates.context(), **login)


class EncryptedRedis(Encrypted, RedisServer):
    scheme = "rediss"

    def command(self) -> Sequence[str]:
        files = self.certificates
        names = {"cert-file": files.certificate, "key-file": files.key, "ca-cert-file": files.authority}
        options = [word for name, file in names.items() for word in (f"--tls-{name}", str(file))]
        self.options = ("--port", "0", "--tls-port", str(self.port), *options)
        return super().command()

    async def connect(self, **login: Any) -> None:
        files = self.certificates
        names = {"ssl_ca_certs": files.authority, "ssl_certfile": files.client[0], "ssl_keyfile": files.client[1]}
        await super().connect(host=HOST, ssl=True, **{name: str(file) for name, file in names.items()}, **login)


class EncryptedRabbit(Encrypted, RabbitServer):
    scheme, plugins = "amqps", "rabbitmq_auth_mechanism_ssl"

    def listener(self) -> str:
        files = self.certificates
        return "\n".join(
            (
                "listeners.tcp = none",
                f"listeners.ssl.1 = {HOST}:{self.port}",
                f"ssl_options.cacertfile = {files.authority}",
                f"ssl_options.certfile = {files.certificate}",
                f"ssl_options.keyfile = {files.key}",
                "ssl_options.verify = verify_peer",
                "ssl_options.fail_if_no_peer_cert = true",
                "auth_mechanisms.1 = PLAIN",
                "auth_mechanisms.2 = EXTERNAL",
                "ssl_cert_login_from = common_name",
            )
        )

    async def connect(self, **login: Any) -> None:
        await super().connect(ssl_context=self.certificates.context(), **login)


class EncryptedKafka(Encrypted, KafkaServer):
    scheme, protocol = "kafkas", "SSL"

    def command(self) -> Sequence[str]:
        files = self.certificates
        both = self.folder / "broker.pem"
        both.write_bytes(files.key.read_bytes() + files.certificate.read_bytes())
        self.properties = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(files.authority),
            "ssl.client.auth": "required",
        }
        return super().command()

    def options(self) -> dict[str, Any]:
        return {**super().options(), "security_protocol": "SSL", "ssl_context": self.certificates.context()}


class EncryptedKafkaMock(Encrypted, KafkaMock):
    """The mock cluster, which has no TLS, behind a front that has, and that says its own port for the cluster's."""

    scheme = "kafkas"

    async def start(self) -> None:
        await super().start()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.certificate, self.certificates.key)
        context.load_verify_locations(self.certificates.authority)
        context.verify_mode = ssl.CERT_REQUIRED
        self.front_port = free_port()
        self._links: set[asyncio.Task[None]] = set()
        self._front = await asyncio.start_server(self._link, HOST, self.front_port, ssl=context)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{HOST}:{self.front_port}"

    async def close(self) -> None:
        if hasattr(self, "_front"):
            self._front.close()
            for link in tuple(self._links):
                link.cancel()
            await asyncio.gather(*self._links, return_exceptions=True)
        await super().close()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        host, port = self.bootstrap.split(":")
        there = await asyncio.open_connection(host, int(port))
        # A broker's address is a string and four bytes, wherever an answer has it.
        own, shown = (host.encode() + struct.pack(">i", number) for number in (int(port), self.front_port))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, there[1]))
                group.create_task(_pump(there[0], writer, own, shown))
        except* (OSError, ssl.SSLError):
            pass
        finally:
            self._links.discard(task)
            for one in (there[1], writer):
                one.close()
                with suppress(Exception):
                    await one.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, old: bytes = b"", new: bytes = b"") -> None:
    while data := await reader.read(65_536):
        writer.write(data.replace(old, new) if old else data)
        await writer.drain()
    raise ConnectionResetError


ENCRYPTED: dict[str, type[Encrypted]] = {
    "nats": EncryptedNats,
    "redis": EncryptedRedis,
    "rabbitmq": EncryptedRabbit,
    "kafka": EncryptedKafkaMock if KafkaServer.missing() else EncryptedKafka,
}
