"""Verifies one signature: `python -m model_server.package.signature_check`, a child of `signature.py`.

Reads the request as JSON from stdin and writes one JSON object, `reason` (empty: valid), `message` and `trust_root`, to
stdout. A request `fetch` asks for the trust root alone, which those for signatures of identities bring.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
from pathlib import Path, PurePosixPath
from typing import Any

_MISMATCH = "Signature mismatch: "
#: A manifest of a hundred thousand files has 20 MB.
_MOST_BYTES = 64 * 2**20
_TRUST_CONFIG = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
#: Parts of a trust configuration, and the files that the library fetches for them.
_FETCHED = {"trustedRoot": "trusted_root", "signingConfig": "signing_config.v0.2"}


class Refused(Exception):
    """The signature does not hold; `reason` is the name of an error of `model_server.errors`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def check(asked: dict[str, Any]) -> None:
    """Verify; raise Refused with the reason."""
    package, signature = Path(asked["package"]), Path(asked["signature"])
    try:
        if signature.stat().st_size > _MOST_BYTES:
            raise Refused("SignatureInvalid", f"{signature.name} is larger than {_MOST_BYTES} bytes")
        content = signature.read_bytes()
    except OSError as error:
        raise Refused("SignatureInvalid", f"{signature.name} cannot be read: {error}") from None
    try:
        statement = json.loads(base64.b64decode(json.loads(content)["dsseEnvelope"]["payload"]))
        statement["predicate"]["serialization"]["method"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused("SignatureInvalid", f"{signature.name} is no signature of the model signing format 1") from None
    config = _verifier(asked)
    try:
        _set_hashing(config, statement)
        config.verify(package, signature)
    except ValueError as error:
        text = str(error)
        if text.startswith(_MISMATCH):
            raise Refused("SignatureMismatch", text.removeprefix(_MISMATCH).strip("[]\"'")) from None
        raise Refused("SignatureInvalid", text) from None
    except Exception as error:
        # Of cryptography, sigstore and the parsers of the bundle: whatever it is, the signature was not verified.
        raise Refused("SignatureInvalid", str(error) or type(error).__name__) from None
    # Signers leave files out by lists of what to ignore, and Git's without saying so.
    unsigned = _files(package) - _signed(statement) - ({signature.name} if package.is_dir() else set())
    if unsigned:
        raise Refused("SignatureMismatch", f"files that are not signed: {', '.join(sorted(unsigned))}")


def _verifier(asked: dict[str, Any]) -> Any:
    from model_signing import verifying
    from sigstore.errors import Error

    config = verifying.Config()
    if asked["public_key"]:
        try:
            return config.use_elliptic_key_verifier(public_key=asked["public_key"])
        except (OSError, ValueError, TypeError, AttributeError) as error:
            text = f"the public key {asked['public_key']} is no PEM of an elliptic curve: {error}"
            raise Refused("SettingsInvalid", text) from None
    if asked["trust_config"]:
        trust_config = Path(asked["trust_config"])
    else:
        # The library reads a file. It lies where the library would keep its own, and goes with that.
        trust_config = Path(os.environ["HOME"]) / "trust.json"
        trust_config.parent.mkdir(parents=True, exist_ok=True)
        trust_config.write_text(asked["trust_root"])
    try:
        return config.use_sigstore_verifier(
            identity=asked["identity"], oidc_issuer=asked["issuer"], trust_config=trust_config
        )
    except (Error, OSError, ValueError) as error:
        reason = "SettingsInvalid" if asked["trust_config"] else "TrustRootUnavailable"
        raise Refused(reason, f"{trust_config} is no trust configuration: {error}") from None


def fetch_trust_root() -> str:
    """Fetch Sigstore's trust root, and return it as a trust configuration; raise Refused with the reason."""
    from sigstore.errors import Error
    from sigstore.models import ClientTrustConfig

    try:
        ClientTrustConfig.production()
    except (Error, OSError, ValueError) as error:
        raise Refused("TrustRootUnavailable", f"{error}: {error.__cause__ or 'no further cause'}") from None
    text = fetched_trust_root(Path(os.environ["XDG_CACHE_HOME"]))
    if not text:
        raise Refused("TrustRootUnavailable", "the library of Sigstore has stored nothing of what it fetched")
    return text


def fetched_trust_root(cache: Path) -> str:
    """Return what the library has just fetched and verified, as a trust configuration; empty if it has fetched nothing.

    Args:
        cache: the library's folder, which was made for this process.
    """
    found = {name: next(cache.rglob(f"{file}.json"), None) for name, file in _FETCHED.items()}
    parts = {name: json.loads(path.read_bytes()) for name, path in found.items() if path is not None}
    return json.dumps({"mediaType": _TRUST_CONFIG, **parts}) if parts.keys() == _FETCHED.keys() else ""


def _set_hashing(config: Any, statement: Any) -> None:
    """Hash as the signer did, and also what Git would leave out where the signer did not.

    The library's own guess reads the size of shards as a float, which its hashing refuses.
    """
    from model_signing import hashing

    how = statement["predicate"]["serialization"]
    files = hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
    if how["method"] == "shards":
        files.use_shard_serialization(hashing_algorithm=how["hash_type"], shard_size=int(how["shard_size"]))
    else:
        files.use_file_serialization(hashing_algorithm=how["hash_type"])
    config.set_hashing_config(files)


def _signed(statement: Any) -> set[str]:
    """The files that the verified statement names."""
    predicate = statement["predicate"]
    names = [one["name"] for one in predicate["resources"]]
    if predicate["serialization"]["method"] == "shards":
        names = [name.rsplit(":", 2)[0] for name in names]
    return {str(PurePosixPath(name)) for name in names}


def _files(package: Path) -> set[str]:
    if package.is_file():
        return {"."}
    return {
        (Path(parent) / name).relative_to(package).as_posix()
        for parent, _, names in os.walk(package, followlinks=True)
        for name in names
    }


def main() -> None:
    """Answer the request on stdin."""
    answer = {"reason": "", "message": "", "trust_root": ""}
    # The library prints warnings.
    with contextlib.redirect_stdout(sys.stderr):
        asked = json.load(sys.stdin)
        try:
            if asked.get("fetch"):
                answer["trust_root"] = fetch_trust_root()
            else:
                check(asked)
        except Refused as refused:
            answer |= {"reason": refused.reason, "message": " ".join(str(refused).split())[:1000]}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
