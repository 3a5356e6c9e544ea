"""A broker with TLS as a user meets it: the condition says what is wrong, and a corrected Secret is enough."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from encrypted_brokers import Certificates, EncryptedNats
from stream_chaos import DEAD, INPUT, OUTPUT
from waiting import eventually

from modeldeploy.kube import MODELDEPLOYMENTS, Resource

SECRETS = Resource("", "v1", "secrets")


@pytest.fixture
async def nats(space: Any, tmp_path: Path) -> AsyncIterator[EncryptedNats]:
    """A NATS server that wants certificates, where pods reach this machine."""
    if why := EncryptedNats.missing():
        pytest.skip(why)
    address = space.node_address()
    server = EncryptedNats(tmp_path, address)
    server.certificates = Certificates(tmp_path / "right", hosts=(address,))
    await server.start()
    await server.create(INPUT, OUTPUT, DEAD)
    yield server
    await server.close()


def write(space: Any, certificates: Certificates, folder: Path) -> None:
    files = {file.name: file.read_text() for file in certificates.secret(folder).iterdir()}
    metadata = {"name": "nats-tls"}
    space.kube.apply(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": files})


@pytest.mark.timeout(240)
async def test_the_condition_tells_a_wrong_authority_and_that_it_is_corrected(
    space: Any, nats: EncryptedNats, tmp_path: Path
) -> None:
    write(space, Certificates(tmp_path / "other"), tmp_path / "first")
    topics = {"input": INPUT, "output": OUTPUT, "deadLetter": DEAD}
    stream = {"nats": {"url": nats.url}, "tls": {"secretName": "nats-tls"}, **topics}
    space.apply("streamed", "quick/breast-cancer/1", server={"stream": stream})

    def condition() -> dict[str, str]:
        found = space.kube.get(MODELDEPLOYMENTS, "streamed").get("status", {}).get("conditions", ())
        return next((one for one in found if one["type"] == "StreamConnected"), {})

    async def is_told() -> bool:
        return condition().get("reason") == "BrokerUntrusted"

    await eventually(is_told, lambda: str(condition()), seconds=90)
    assert "ca.crt into the Secret spec.server.stream.tls.secretName" in condition()["message"]
    write(space, nats.certificates, tmp_path / "second")

    async def is_well() -> bool:
        return condition().get("status") == "True"

    await eventually(is_well, lambda: str(condition()), seconds=120)
