"""A model that has to be signed: one that is serves, one that was changed or signed by others does not."""

import base64
import shutil
from typing import Any

import httpx
import pytest
from model_packages import own_predictions, some_rows
from signers import new_key
from typer.testing import CliRunner

from modeldeploy.app import build
from modeldeploy.kube import MODELDEPLOYMENTS, Resource
from modeldeploy.stand import wait_until

NAME = "signed"
SECRETS = Resource("", "v1", "secrets")
CONFIG_MAPS = Resource("", "v1", "configmaps")


@pytest.fixture(scope="module")
def signed(space: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A namespace with the public key, and a model that is served because it is signed."""
    if space.cluster.running is None:
        pytest.skip("signs packages, and a cluster's may lie in an image")
    keys = tmp_path_factory.mktemp("keys")
    public = new_key(keys, "ours").with_suffix(".pub").read_bytes()
    new_key(keys, "theirs")
    quick = space.cluster.models / "quick" / "breast-cancer"
    for package, version, signer in (
        ("signed", "1", "ours"),
        ("changed", "2", "ours"),
        ("foreign", "2", "theirs"),
        ("unsigned", "2", ""),
    ):
        folder = shutil.copytree(quick / version, space.cluster.models / f"{package}-{space.namespace}")
        if signer:
            done = CliRunner().invoke(build(), ["package", str(folder), "--sign", str(keys / f"{signer}.key")])
            assert done.exit_code == 0, done.output
    with (space.cluster.models / f"changed-{space.namespace}" / "model.py").open("a") as code:
        code.write("\n# changed\n")

    metadata = {"name": "release-key"}
    space.kube.apply(
        CONFIG_MAPS,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"model.pub": public.decode()}},
    )
    secret = {"model.pub": base64.b64encode(public).decode(), "model.key": base64.b64encode(b"secret").decode()}
    space.kube.apply(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": secret})
    apply(space, "signed", {"configMapName": "release-key", "key": "model.pub"})
    space.wait_live(NAME, "1")
    return space


def apply(space: Any, package: str, public_key: dict[str, str]) -> None:
    # Without trust: a model.py is code, and the signature vouches for it.
    model = {"trusted": False, "signature": {"publicKey": public_key}}
    space.apply(NAME, f"{package}-{space.namespace}", model=model)


def assert_serves(space: Any) -> None:
    rows = some_rows(5)
    answer = httpx.post(f"{space.url(NAME)}/predict", json={"instances": rows}, trust_env=False)
    assert answer.json()["predictions"] == own_predictions("1", rows)
    assert answer.json()["model_version"] == "1"


@pytest.mark.timeout(180)
def test_a_signed_model_serves_without_trust(signed: Any) -> None:
    assert_serves(signed)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("package", "reason", "hint"),
    [
        ("changed", "SignatureMismatch", "sign the package again"),
        ("foreign", "SignatureInvalid", "the key or identity that spec.model.signature names"),
        ("unsigned", "SignatureMissing", "modeldeploy package FOLDER --sign KEY"),
    ],
)
def test_another_is_refused_with_reason_and_hint_and_the_old_revision_serves(
    signed: Any, package: str, reason: str, hint: str
) -> None:
    apply(signed, package, {"configMapName": "release-key", "key": "model.pub"})

    def failure() -> dict[str, Any] | None:
        status = signed.kube.get(MODELDEPLOYMENTS, NAME)["status"]
        return next((one for one in status.get("podFailures", ()) if one["reason"] == reason), None)

    found = wait_until(failure, f"status names {reason}", seconds=90)
    assert found is not None
    assert hint in found["message"]
    assert_serves(signed)


@pytest.mark.timeout(180)
def test_the_key_may_lie_in_a_secret(signed: Any) -> None:
    apply(signed, "signed", {"secretName": "release-key", "key": "model.pub"})
    signed.wait_live(NAME, "1")


@pytest.mark.timeout(180)
def test_an_entry_that_is_not_there_is_named(signed: Any) -> None:
    apply(signed, "signed", {"secretName": "release-key", "key": "other.pub"})

    def failure() -> dict[str, Any] | None:
        status = signed.kube.get(MODELDEPLOYMENTS, NAME)["status"]
        return next((one for one in status.get("podFailures", ()) if "other.pub" in one["message"]), None)

    assert wait_until(failure, "status names the entry", seconds=90)
