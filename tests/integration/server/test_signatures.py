"""A package that has to be signed: who signed what is checked before anything is loaded."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import http_servers
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from free_ports import free_port
from model_signing import hashing
from signers import new_key, sign

from model_server.errors import SignatureInvalid, StartError, TrustRootUnavailable
from model_server.loader import load
from model_server.package.signature import KeptTrustRoot, Signer, verify_signature
from model_server.package.signature_check import fetched_trust_root
from model_server.settings import read_settings
from model_server.termination import exit_code

RAN = "from pathlib import Path\nPath({!r}).touch()\n"
ASKED = {"signature_identity": "release@example.com", "signature_issuer": "https://accounts.example.com"}
CODE = "def load_model(path): return 1\ndef predict(model, inputs): return [7] * len(inputs)\n"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    for name in ("ours", "theirs"):
        new_key(folder, name)
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of a format that runs code; it leaves a file behind when it does."""
    folder = tmp_path / "model"
    (folder / "weights").mkdir(parents=True)
    (folder / "model.py").write_text(RAN.format(str(tmp_path / "ran")) + CODE)
    (folder / "weights" / "a.bin").write_bytes(bytes(100_000))
    (folder / "weights" / "b.bin").write_bytes(bytes(1))
    return folder


def start(tmp_path: Path, uri: str, environ: dict[str, str] | None = None, **settings: object) -> Any:
    given = {f"MODEL_SERVER_{name.upper()}": str(value) for name, value in settings.items()}
    everything = {**(environ or {}), **given, "MODEL_SERVER_STORAGE_URI": uri}
    return load(read_settings(everything), tmp_path / "own", environ=everything, report=lambda phase, text: None)


def refusal(tmp_path: Path, uri: str, environ: dict[str, str] | None = None, **settings: object) -> StartError:
    with pytest.raises(StartError) as caught:
        start(tmp_path, uri, environ, **settings)
    assert not (tmp_path / "ran").exists(), "the package's code ran"
    return caught.value


def test_a_valid_signature_vouches_for_a_package_that_runs_code(tmp_path: Path, keys: Path, package: Path) -> None:
    assert refusal(tmp_path, f"file://{package}").reason == "ArtifactNotTrusted"
    sign(package, keys / "ours.key")
    loaded = start(tmp_path, f"file://{package}", signature_public_key=keys / "ours.pub")
    assert loaded.identity.format == "python"
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_keys_of_other_curves_sign_too(tmp_path: Path, package: Path, curve: ec.EllipticCurve) -> None:
    sign(package, new_key(tmp_path, "large", ec.generate_private_key(curve)))
    assert start(tmp_path, f"file://{package}", signature_public_key=tmp_path / "large.pub")


def test_a_signature_of_shards_is_valid(tmp_path: Path, keys: Path, package: Path) -> None:
    config = hashing.Config().use_shard_serialization(shard_size=4096).set_ignored_paths(paths=[Path("model.sig")])
    sign(package, keys / "ours.key", config=config)
    assert start(tmp_path, f"file://{package}", signature_public_key=keys / "ours.pub")


def changed_payload(package: Path, keys: Path) -> None:
    """The statement of the signature is replaced by one that fits the changed files."""
    signature = json.loads((package / "model.sig").read_text())
    (package / "model.py").write_text(CODE)
    sign(package, keys / "theirs.key")
    forged = json.loads((package / "model.sig").read_text())
    signature["dsseEnvelope"]["payload"] = forged["dsseEnvelope"]["payload"]
    (package / "model.sig").write_text(json.dumps(signature))


def emptied_payload(package: Path, keys: Path) -> None:
    signature = json.loads((package / "model.sig").read_text())
    signature["dsseEnvelope"]["payload"] = base64.b64encode(b"{}").decode()
    (package / "model.sig").write_text(json.dumps(signature))


def without_signatures(package: Path, keys: Path) -> None:
    signature = json.loads((package / "model.sig").read_text())
    signature["dsseEnvelope"]["signatures"] = []
    (package / "model.sig").write_text(json.dumps(signature))


def added(name: str) -> Callable[[Path, Path], None]:
    def add(package: Path, keys: Path) -> None:
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text(CODE)

    return add


@pytest.mark.parametrize(
    ("attack", "reason", "message"),
    [
        pytest.param(lambda p, k: (p / "model.sig").unlink(), "SignatureMissing", "no model.sig", id="removed"),
        pytest.param(
            lambda p, k: sign(p, k / "theirs.key"), "SignatureInvalid", "owner of the public key", id="foreign"
        ),
        pytest.param(
            lambda p, k: (p / "weights/a.bin").write_bytes(b"x"), "SignatureMismatch", "a.bin", id="a file changed"
        ),
        pytest.param(
            lambda p, k: (p / "model.py").write_text(CODE), "SignatureMismatch", "model.py", id="code changed"
        ),
        pytest.param(lambda p, k: (p / "weights/b.bin").unlink(), "SignatureMismatch", "b.bin", id="a file removed"),
        pytest.param(added("evil.py"), "SignatureMismatch", "evil.py", id="a file added"),
        pytest.param(
            added(".git/model.skops"), "SignatureMismatch", ".git/model.skops", id="added where signers do not look"
        ),
        pytest.param(
            added("weights/model.sig"), "SignatureMismatch", "weights/model.sig", id="added, named as the signature"
        ),
        pytest.param(changed_payload, "SignatureInvalid", "", id="files and statement changed"),
        pytest.param(emptied_payload, "SignatureInvalid", "", id="an empty statement"),
        pytest.param(without_signatures, "SignatureInvalid", "", id="a statement that nobody signed"),
        pytest.param(
            lambda p, k: (p / "model.sig").write_text("{}"),
            "SignatureInvalid",
            "no signature of the",
            id="not a bundle",
        ),
        pytest.param(
            lambda p, k: (p / "model.sig").write_bytes(b"\xff\x00"),
            "SignatureInvalid",
            "no signature of the",
            id="bytes",
        ),
        pytest.param(
            lambda p, k: (p / "model.sig").write_text("[" * 100_000),
            "SignatureInvalid",
            "no signature of the",
            id="deep JSON",
        ),
        pytest.param(
            lambda p, k: (p / "model.sig").write_text('{"dsseEnvelope": {"payload": [[]]}, "verificationMaterial": 3}'),
            "SignatureInvalid",
            "",
            id="odd types",
        ),
    ],
)
def test_an_attack_is_refused_with_a_hint_before_anything_is_loaded(
    tmp_path: Path, keys: Path, package: Path, attack: Callable[[Path, Path], object], reason: str, message: str
) -> None:
    sign(package, keys / "ours.key")
    attack(package, keys)
    # Trust in general does not stand in for the signature that the spec asks for.
    error = refusal(tmp_path, f"file://{package}", signature_public_key=keys / "ours.pub", trusted=True)
    assert (error.reason, exit_code(error), error.permanent) == (reason, 65, True), error.message
    assert message in error.message
    assert error.hint


def test_a_signature_of_another_package_does_not_fit(tmp_path: Path, keys: Path, package: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(package, other)
    (other / "weights" / "a.bin").write_bytes(b"other")
    sign(other, keys / "ours.key")
    shutil.copy(other / "model.sig", package / "model.sig")
    assert refusal(tmp_path, f"file://{package}", signature_public_key=keys / "ours.pub").reason == "SignatureMismatch"


def test_a_pin_and_a_signature_have_both_to_fit(tmp_path: Path, keys: Path, package: Path) -> None:
    sign(package, keys / "ours.key")
    settings = {"signature_public_key": keys / "ours.pub", "sha256": "0" * 64}
    assert refusal(tmp_path, f"file://{package}", **settings).reason == "DigestMismatch"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "No such file", id="not there"),
        pytest.param(b"ours", "no PEM of an elliptic curve", id="not a key"),
        pytest.param("ed25519", "no PEM of an elliptic curve", id="of another algorithm"),
        pytest.param("secp256k1", "Unsupported key for curve", id="of another curve"),
    ],
)
def test_a_public_key_that_cannot_be_used_is_a_setting_at_fault(
    tmp_path: Path, keys: Path, package: Path, content: object, message: str
) -> None:
    sign(package, keys / "ours.key")
    key = tmp_path / "odd.pub"
    if isinstance(content, bytes):
        key.write_bytes(content)
    elif content:
        algorithms = {
            "ed25519": ed25519.Ed25519PrivateKey.generate,
            "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
        }
        new_key(tmp_path, "odd", algorithms[str(content)]())
    error = refusal(tmp_path, f"file://{package}", signature_public_key=key)
    assert (error.reason, exit_code(error)) == ("SettingsInvalid", 78)
    assert message in error.message


class TestOneFile:
    """A package of one file has its signature beside it."""

    @pytest.fixture
    def served(self, tmp_path: Path, same: bytes) -> Any:
        """A folder that is served over HTTP, with a graph in it."""
        folder = tmp_path / "served"
        folder.mkdir()
        (folder / "model.onnx").write_bytes(same)

        class Handler(http_servers.Handler):
            def do_GET(self):
                file = folder / self.path.partition("?")[0].lstrip("/")
                self.answer(file.read_bytes() if file.is_file() else b"", 200 if file.is_file() else 404)

        with http_servers.served(Handler) as host:
            yield folder, f"http://{host}/model.onnx?token=secret"

    def test_a_valid_signature(self, tmp_path: Path, keys: Path, served: Any) -> None:
        folder, uri = served
        sign(folder / "model.onnx", keys / "ours.key", signature=folder / "model.onnx.sig")
        assert start(tmp_path, uri, signature_public_key=keys / "ours.pub").identity.format == "onnx"

    @pytest.mark.parametrize("by", ["theirs", ""])
    def test_a_foreign_or_missing_signature(self, tmp_path: Path, keys: Path, served: Any, by: str) -> None:
        folder, uri = served
        if by:
            sign(folder / "model.onnx", keys / f"{by}.key", signature=folder / "model.onnx.sig")
        error = refusal(tmp_path, uri, signature_public_key=keys / "ours.pub")
        assert error.reason == ("SignatureInvalid" if by else "SignatureMissing")
        assert "secret" not in error.message

    def test_an_archive_is_not_unpacked_before_it_is_verified(self, tmp_path: Path, keys: Path, package: Path) -> None:
        archive = Path(shutil.make_archive(str(tmp_path / "packed"), "gztar", package))
        sign(archive, keys / "ours.key", signature=tmp_path / f"{archive.name}.sig")
        assert start(tmp_path, f"file://{archive}", signature_public_key=keys / "ours.pub").identity.format == "python"
        (tmp_path / "ran").unlink()
        archive.write_bytes(b"not an archive")
        error = refusal(tmp_path / "again", f"file://{archive}", signature_public_key=keys / "ours.pub")
        assert error.reason == "SignatureMismatch"


class TestIdentity:
    """Signatures of identities are verified with Sigstore's keys, which have to be fetched."""

    def test_without_a_network_the_error_says_what_is_needed(self, tmp_path: Path, keys: Path, package: Path) -> None:
        sign(package, keys / "ours.key")
        proxy = {"HTTPS_PROXY": f"http://127.0.0.1:{free_port()}"}
        error = refusal(tmp_path, f"file://{package}", proxy, **ASKED)
        assert (error.reason, exit_code(error), error.permanent) == ("TrustRootUnavailable", 69, False)
        assert "tuf-repo-cdn.sigstore.dev" in error.message
        assert "MODEL_SERVER_SIGNATURE_TRUST_CONFIG" in error.hint

    def test_keys_that_were_fetched_are_kept_for_an_hour(
        self, tmp_path: Path, keys: Path, package: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sigstore.models import ClientTrustConfig

        for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
            monkeypatch.setenv(name, str(tmp_path / "library"))
        assert fetched_trust_root(tmp_path / "library") == ""
        ClientTrustConfig.production(offline=True)  # what comes with the library, where a fetch leaves what it fetched
        now = [0.0]
        kept = KeptTrustRoot(lambda: now[0])
        kept.keep(fetched_trust_root(tmp_path / "library"))
        sign(package, keys / "ours.key")
        signer = Signer(identity="release@example.com", issuer="https://accounts.example.com")
        nowhere = {**os.environ, "HTTPS_PROXY": f"http://127.0.0.1:{free_port()}"}
        asked = (package, package / "model.sig", signer, tmp_path / "scratch", nowhere, kept)
        with pytest.raises(SignatureInvalid):
            verify_signature(*asked)
        now[0] = 3601.0
        with pytest.raises(TrustRootUnavailable):
            verify_signature(*asked)

    def test_a_trust_configuration_that_is_none_is_a_setting_at_fault(
        self, tmp_path: Path, keys: Path, package: Path
    ) -> None:
        sign(package, keys / "ours.key")
        (tmp_path / "trust.json").write_text("{}")
        error = refusal(tmp_path, f"file://{package}", **ASKED, signature_trust_config=tmp_path / "trust.json")
        assert error.reason == "SettingsInvalid"
        assert "trust.json is no trust configuration" in error.message

    def test_a_signature_by_a_key_is_not_one_of_an_identity(self, tmp_path: Path, keys: Path, package: Path) -> None:
        from sigstore._internal.tuf import DEFAULT_TUF_URL
        from sigstore._utils import read_embedded

        sign(package, keys / "ours.key")
        trust = {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": json.loads(read_embedded("trusted_root.json", DEFAULT_TUF_URL)),
            "signingConfig": json.loads(read_embedded("signing_config.v0.2.json", DEFAULT_TUF_URL)),
        }
        (tmp_path / "trust.json").write_text(json.dumps(trust))
        error = refusal(tmp_path, f"file://{package}", **ASKED, signature_trust_config=tmp_path / "trust.json")
        assert error.reason == "SignatureInvalid", error.message
        assert "release@example.com" in error.message

    @pytest.mark.parametrize(
        "settings",
        [
            pytest.param({"signature_identity": "a@b.c"}, id="no issuer"),
            pytest.param({"signature_issuer": "https://a.b"}, id="no identity"),
            pytest.param({**ASKED, "signature_public_key": "/key"}, id="a key as well"),
            pytest.param({**ASKED, "signature_issuer": "http://a.b"}, id="an issuer without TLS"),
        ],
    )
    def test_settings_that_contradict_each_other(self, tmp_path: Path, settings: dict[str, str]) -> None:
        assert refusal(tmp_path, "file:///model", **settings).reason == "SettingsInvalid"
