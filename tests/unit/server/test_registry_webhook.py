"""Which webhooks of MLflow make the server look at its source."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from model_server.errors import MalformedRequest, RequestError, SettingsInvalid, Unauthorized
from model_server.registry_webhook import RegistryWebhook

SECRET, NOW = "of-a-webhook-and-long-enough", 1_800_000_000.0
OURS = RegistryWebhook("wine", "champion", SECRET.encode())


def body(entity: str = "model_version_alias", action: str = "created", **data: Any) -> bytes:
    given = {"name": "wine", "alias": "champion", "version": "2", **data}
    return json.dumps({"entity": entity, "action": action, "timestamp": "2026-11-30", "data": given}).encode()


def signed(content: bytes, *, sent: str = str(int(NOW)), secret: str = SECRET, **headers: str) -> dict[bytes, bytes]:
    digest = hmac.new(secret.encode(), f"d1.{sent}.".encode() + content, hashlib.sha256).digest()
    given = {
        "x-mlflow-delivery-id": "d1",
        "x-mlflow-timestamp": sent,
        "x-mlflow-signature": f"v1,{base64.b64encode(digest).decode()}",
        **headers,
    }
    return {name.replace("_", "-").encode(): value.encode() for name, value in given.items()}


@pytest.mark.parametrize(
    ("content", "is_ours"),
    [
        pytest.param(body(), True, id="our alias names another version"),
        pytest.param(body(action="deleted"), True, id="our alias is gone"),
        pytest.param(body(alias="challenger"), False, id="another alias"),
        pytest.param(body(name="beer"), False, id="another model"),
        pytest.param(body(entity="prompt_alias"), False, id="an alias of a prompt"),
        pytest.param(body(entity="model_version", alias=""), False, id="a version that no alias names"),
    ],
)
def test_a_webhook_is_about_us_by_the_names_in_it(content: bytes, is_ours: bool) -> None:
    assert OURS.is_about_us(signed(content), content, now=NOW) is is_ours


@pytest.mark.parametrize(
    ("headers", "content", "error"),
    [
        pytest.param({}, body(), Unauthorized, id="no signature"),
        pytest.param(signed(body(), secret="another-secret-of-theirs"), body(), Unauthorized, id="another secret"),
        pytest.param(signed(body()), body(version="3"), Unauthorized, id="another body"),
        pytest.param(signed(body(), x_mlflow_delivery_id="d2"), body(), Unauthorized, id="another delivery"),
        pytest.param(signed(body(), x_mlflow_signature="v1,\xe9"), body(), Unauthorized, id="a signature that is none"),
        pytest.param(signed(body(), sent=str(int(NOW) - 301)), body(), Unauthorized, id="sent again later"),
        pytest.param(signed(body(), sent=str(int(NOW) + 301)), body(), Unauthorized, id="from a clock far ahead"),
        pytest.param(signed(body(), sent="now"), body(), Unauthorized, id="at no time"),
        pytest.param(signed(body(), sent="9" * 5000), body(), Unauthorized, id="at a time without an end"),
        pytest.param(signed(b"[]"), b"[]", MalformedRequest, id="no event"),
        pytest.param(signed(b"[" * 9999), b"[" * 9999, MalformedRequest, id="a body without an end"),
        pytest.param(signed(b"\xff"), b"\xff", MalformedRequest, id="no text"),
    ],
)
def test_what_is_refused(headers: dict[bytes, bytes], content: bytes, error: type[RequestError]) -> None:
    with pytest.raises(error):
        OURS.is_about_us(headers, content, now=NOW)


@pytest.mark.parametrize(
    ("uri", "secret", "found"),
    [
        pytest.param("models:/wine@champion", f" {SECRET}\n", OURS, id="an alias and a secret"),
        pytest.param("models:/wine@champion", "", None, id="no secret"),
        pytest.param("models:/wine/7", SECRET, None, id="a version never moves"),
        pytest.param("s3://models/wine", SECRET, None, id="no registry"),
    ],
)
def test_who_takes_webhooks(uri: str, secret: str, found: RegistryWebhook | None) -> None:
    assert RegistryWebhook.of(uri, {"MLFLOW_WEBHOOK_SECRET": secret}) == found
    assert SECRET not in repr(found)


def test_a_secret_that_can_be_guessed_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsInvalid, match="has 8 characters") as refused:
        RegistryWebhook.of("models:/wine@champion", {"MLFLOW_WEBHOOK_SECRET": "password"})
    assert "password" not in refused.value.message
