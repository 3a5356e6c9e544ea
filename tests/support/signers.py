"""Keys, and packages that are signed as other tools that know the format do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, signing


def new_key(folder: Path, name: str, key: Any = None) -> Path:
    """A private key in NAME.key, and the public one beside it in NAME.pub."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private


def sign(package: Path, key: Path, *, signature: Path | None = None, config: hashing.Config | None = None) -> None:
    """Sign as other tools that know the format do."""
    ignored = hashing.Config().set_ignored_paths(paths=[Path("model.sig")])
    signer = signing.Config().set_hashing_config(config or ignored).use_elliptic_key_signer(private_key=key)
    signer.sign(package, signature or package / "model.sig")
