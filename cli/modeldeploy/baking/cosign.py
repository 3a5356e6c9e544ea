"""Signatures of images in the format of cosign, with a key: `cosign verify --key` checks ours, and we check theirs.

A signature lies beside its image, in the same repository, under a tag that is made of the image's digest.
https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from modeldeploy.baking.image import CONFIG, MANIFEST, Blob, blob_of, read_document
from modeldeploy.baking.registry import Repository
from modeldeploy.package.signing import PASSWORD
from modeldeploy.requests import Refused

_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_TYPE = "cosign container image signature"
#: More signatures of one image are not looked at.
_MOST = 50
_MAKE = "as `openssl ecparam -name prime256v1 -genkey -noout` makes it"


def tag_of(digest: str) -> str:
    """The tag of an image's signatures: `sha256-....sig`."""
    return f"{digest.replace(':', '-')}.sig"


def private_key(path: Path, environ: Mapping[str, str]) -> ec.EllipticCurvePrivateKey:
    """Read a private key (PEM). Raises Refused."""
    password = environ[PASSWORD].encode() if environ.get(PASSWORD) else None
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password)
    except (OSError, ValueError, TypeError) as error:
        raise Refused(
            f"{path} cannot sign: {error}. Write a private key of an elliptic curve (PEM), {_MAKE}; its password, if it"
            f" has one, is read from {PASSWORD}"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refused(f"{path} is no key of an elliptic curve: make one {_MAKE}")
    return key


def public_key(path: Path) -> ec.EllipticCurvePublicKey:
    """Read a public key (PEM). Raises Refused."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Refused(f"{path} is no public key (PEM), as `cosign.pub`: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Refused(f"{path} is no key of an elliptic curve, which images are signed with")
    return key


def sign(repository: Repository, digest: str, key: ec.EllipticCurvePrivateKey) -> None:
    """Add a signature of an image to those it has, unless it has one by this key. Raises Refused."""
    payload = _payload(repository.image.name, digest)
    existing = _layers(repository, digest)
    if _verified(repository, existing, digest, key.public_key()):
        return
    signature = base64.b64encode(key.sign(payload.content, ec.ECDSA(hashes.SHA256()))).decode()
    layers = [*existing, {**payload.descriptor, "annotations": {_SIGNATURE: signature}}]
    diff_ids = [layer["digest"] for layer in layers]
    config = blob_of(
        CONFIG, {"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    )
    repository.put_document(payload)
    repository.put_document(config)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor, "layers": layers}
    repository.put_manifest(tag_of(digest), blob_of(MANIFEST, manifest))


def check_signed(repository: Repository, digests: Iterable[str], key: ec.EllipticCurvePublicKey, path: str) -> None:
    """Check that one of the digests, which lead to the same image, is signed by the owner of the key.

    Raises:
        Refused: none is; the message says whether there are signatures by others.
    """
    found = [(digest, _layers(repository, digest)) for digest in dict.fromkeys(digests)]
    if any(_verified(repository, layers, digest, key) for digest, layers in found):
        return
    if any(layers for _, layers in found):
        raise Refused(f"{repository.image} is signed, and not by the key {path}: name the key of whoever publishes it")
    raise Refused(
        f"{repository.image} is not signed: sign it with `cosign sign --key` (which pushes {tag_of(found[0][0])}), or"
        " leave --verify-base out if you trust it as it is"
    )


def _layers(repository: Repository, digest: str) -> list[dict[str, Any]]:
    manifest = repository.manifest(tag_of(digest))
    if manifest is None:
        return []
    layers = read_document(manifest.content, f"{repository.image.name}:{tag_of(digest)}").get("layers")
    return [layer for layer in layers if isinstance(layer, dict)][:_MOST] if isinstance(layers, list) else []


def _verified(
    repository: Repository, layers: Iterable[Mapping[str, Any]], digest: str, key: ec.EllipticCurvePublicKey
) -> bool:
    """Whether one of the signatures is by the key, and of this image."""
    for layer in layers:
        if layer.get("mediaType") != _PAYLOAD:
            continue
        try:
            signature = base64.b64decode(layer["annotations"][_SIGNATURE], validate=True)
            payload = repository.document(str(layer["digest"]))
            key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
            said = json.loads(payload)["critical"]
            if said["type"] == _TYPE and said["image"]["docker-manifest-digest"] == digest:
                return True
        except (InvalidSignature, KeyError, TypeError, ValueError):
            continue
    return False


def _payload(name: str, digest: str) -> Blob:
    critical = {"identity": {"docker-reference": name}, "image": {"docker-manifest-digest": digest}, "type": _TYPE}
    return blob_of(_PAYLOAD, {"critical": critical, "optional": None})
