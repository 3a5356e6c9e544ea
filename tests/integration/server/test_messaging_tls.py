"""Brokers with TLS: whom the server trusts, what it shows, and what it says when they do not agree."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from broker_base import TestBroker
from brokers import BROKERS
from encrypted_brokers import ENCRYPTED, Certificates, Encrypted, EncryptedKafkaMock
from stream_chaos import DEAD, INPUT, OUTPUT
from waiting import eventually

from model_server.messaging.broker import BrokerError, Subscription
from model_server.messaging.connection import create_broker
from model_server.messaging.encryption import Encryption, speaks_tls

TOPICS = Subscription(input=INPUT, output=OUTPUT, dead_letter=DEAD, group="wine", consumer="c", most=10)
SCHEMES = {"tls": "nats", "rediss": "redis", "amqps": "amqp", "kafkas": "kafka"}
#: The others take minutes with their start.
QUICK = frozenset({"nats", "redis", "kafka"})
NAMES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.heavy) for name in sorted(ENCRYPTED)]


def made(kind: type[TestBroker], folder: Path) -> TestBroker:
    if why := kind.missing():
        pytest.skip(why)
    folder.mkdir(exist_ok=True)
    return kind(folder)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates") / "right")


@pytest.fixture(params=NAMES)
async def broker(request, certificates, tmp_path_factory) -> AsyncIterator[Encrypted]:
    broker = made(ENCRYPTED[request.param], tmp_path_factory.mktemp(request.param))
    assert isinstance(broker, Encrypted)
    broker.certificates = certificates
    await broker.start()
    await broker.create(INPUT, OUTPUT, DEAD)
    yield broker
    await broker.close()


async def problem(url: str, tls_dir: Path | None, credentials_dir: Path | None = None) -> tuple[str, str, str]:
    """The reason, the message and the hint with which a broker is not opened; empty if it is."""
    broker = create_broker(url, TOPICS, credentials_dir=credentials_dir, ca_file=None, tls_dir=tls_dir)
    try:
        await broker.open()
    except BrokerError as error:
        return error.reason, error.message, error.hint
    finally:
        await broker.close()
    return "", "", ""


async def test_renewed_certificates_are_taken_without_a_restart(broker, certificates, wine, serve, tmp_path):
    secret = Certificates(tmp_path / "other").secret(tmp_path / "secret")
    topics = {"stream_input": INPUT, "stream_output": OUTPUT, "stream_dead_letter": DEAD}
    given = {"name": "wine", "trusted": True, "stream_url": broker.url, "stream_tls_dir": secret, **topics}
    server = serve(wine.uri, **given).wait_ready()

    async def told() -> bool:
        return 'reason="BrokerUntrusted"' in server.client.get("/metrics").text

    await eventually(told, server.describe, seconds=30)
    assert "ca.crt" in server.log.read_text()
    certificates.secret(secret)
    body = json.dumps({"instances": wine.rows[:1].tolist()}).encode()
    await broker.send(INPUT, [(body, {"x-request-id": "first"})])

    async def answered() -> bool:
        return [one.headers["x-request-id"] for one in await broker.receive(OUTPUT)] == ["first"]

    await eventually(answered, server.describe, seconds=60)


async def test_what_is_wrong_with_the_own_certificates_is_told(broker, certificates, tmp_path):
    assert (await problem(broker.url, certificates.secret(tmp_path / "all")))[0] == ""
    reason, message, hint = await problem(broker.url, Certificates(tmp_path / "o").secret(tmp_path / "other"))
    assert (reason, "is not trusted" in message, "ca.crt" in hint) == ("BrokerUntrusted", True, True)
    reason, message, hint = await problem(broker.url, None)
    assert (reason, "is not trusted" in message) == ("BrokerUntrusted", True)
    reason, _, hint = await problem(broker.url, certificates.secret(tmp_path / "ca", "ca.crt"))
    if not isinstance(broker, EncryptedKafkaMock):  # asyncio's server ends without a word
        assert (reason, "tls.crt" in hint) == ("BrokerRefused", True)
    reason, message, _ = await problem(broker.url, certificates.secret(tmp_path / "half", "ca.crt", "tls.crt"))
    assert (reason, "only one of" in message) == ("TLSFilesInvalid", True)
    broken = certificates.secret(tmp_path / "broken")
    (broken / "ca.crt").write_text("no certificate")
    reason, message, _ = await problem(broker.url, broken)
    assert (reason, "PEM" in message) == ("TLSFilesInvalid", True)


async def test_an_address_without_tls_is_told_from_a_broker_that_is_away(broker, certificates, tmp_path):
    scheme, _, rest = broker.url.partition("://")
    reason, message, hint = await problem(f"{SCHEMES[scheme]}://{rest}", None)
    if scheme == "tls":
        # A client of NATS learns from the greeting that it has to encrypt, and does so.
        assert (reason, "is not trusted" in message) == ("BrokerUntrusted", True)
    else:
        assert (reason, f"{scheme}://" in hint) == ("EncryptionMismatch", True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("given", "reason", "words"),
    [
        pytest.param({"age": 10}, "BrokerCertificateExpired", "has expired", id="a certificate of last week"),
        pytest.param({"age": -1}, "BrokerCertificateExpired", "not valid yet", id="a certificate of tomorrow"),
        pytest.param(
            {"hosts": ("broker.elsewhere",)}, "BrokerUntrusted", "mismatch", id="a certificate of another host"
        ),
    ],
)
async def test_what_is_wrong_with_the_certificate_of_the_broker_is_told(name, given, reason, words, tmp_path):
    files = Certificates(tmp_path / "certificates", **given)
    broker = made(ENCRYPTED[name], tmp_path / "broker")
    assert isinstance(broker, Encrypted)
    broker.certificates = files
    # The clients of the tests would not trust it either; the front of the mock cluster starts with it.
    if isinstance(broker, EncryptedKafkaMock):
        await broker.start()
    else:
        broker.spawn()
    try:

        async def told() -> bool:
            found = await problem(broker.url, files.secret(tmp_path / "secret"))
            return found[0] == reason and words in found[1]

        await eventually(told, lambda: f"{reason} of {name}", seconds=60)
    finally:
        await broker.close()


@pytest.mark.parametrize("name", NAMES)
async def test_a_broker_without_tls_is_shown_no_credentials(name, certificates, tmp_path):
    broker = made(BROKERS[name], tmp_path / "broker")
    await broker.start()
    secret = tmp_path / "credentials"
    secret.mkdir()
    (secret / "username").write_text("guest")
    (secret / "password").write_text("guest")
    encrypted = next(one for one, plain in SCHEMES.items() if plain == broker.scheme)
    try:
        url = f"{encrypted}://{broker.url.partition('://')[2]}"
        reason, message, _ = await problem(url, certificates.secret(tmp_path / "secret"), secret)
        # What waits for the end of a first line, and says nothing, cannot be told from one that is away.
        assert reason == ("BrokerUnavailable" if name in ("redis", "kafka") else "EncryptionMismatch"), message
    finally:
        await broker.close()


async def test_why_nats_refuses_is_heard_on_a_connection_that_sends_nothing(certificates, tmp_path):
    broker = made(ENCRYPTED["nats"], tmp_path / "broker")
    assert isinstance(broker, Encrypted)
    broker.certificates = certificates
    await broker.start()
    encryption = Encryption(certificates.secret(tmp_path / "ca", "ca.crt"), None)
    try:
        assert await speaks_tls([(broker.host, broker.port)], encryption.context(), greets_first=True)
        found = encryption.problem("the broker", plain="nats", encrypted="tls")
        assert found is not None
        assert found.reason == "BrokerRefused"
    finally:
        await broker.close()


@pytest.mark.heavy
async def test_rabbitmq_takes_the_user_from_the_certificate(certificates, tmp_path):
    broker = made(ENCRYPTED["rabbitmq"], tmp_path / "broker")
    assert isinstance(broker, Encrypted)
    broker.certificates = certificates
    await broker.start()
    await broker.create(INPUT, OUTPUT, DEAD)
    secret = tmp_path / "credentials"
    secret.mkdir()
    (secret / "mechanism").write_text("EXTERNAL")
    try:
        assert (await problem(broker.url, certificates.secret(tmp_path / "tls"), secret))[0] == ""
        (secret / "mechanism").write_text("NTLM")
        reason, message, hint = await problem(broker.url, certificates.secret(tmp_path / "tls"), secret)
        assert (reason, hint) == ("BrokerRefused", "Write one of PLAIN, EXTERNAL.")
        assert "'NTLM'" in message
    finally:
        await broker.close()
