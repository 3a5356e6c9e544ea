"""Signs a package in the OpenSSF model signing format, which the model server verifies; `commands/package.py` calls it.

The signature, a Sigstore bundle, lies in the folder as `model.sig` and covers all of its other files.

https://github.com/ossf/model-signing-spec
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldeploy.requests import Refused

if TYPE_CHECKING:
    from model_signing.signing import Config

SIGNATURE = "model.sig"
#: Password of an encrypted private key.
PASSWORD = "MODELDEPLOY_SIGNING_PASSWORD"  # noqa: S105 -- the name of a variable
#: OpenID Connect token of whoever signs; without it that of the CI system is taken, else a browser is opened.
TOKEN = "SIGSTORE_IDENTITY_TOKEN"  # noqa: S105 -- the name of a variable


def sign_with_key(folder: Path, key: Path, environ: Mapping[str, str]) -> None:
    """Write the signature of a folder with a private key (PEM, P-256, P-384 or P-521).

    Raises:
        Refused: the key cannot be read, or the folder has links.
    """
    config = _config()
    # The library's annotation says str, and what it calls takes bytes.
    password: Any = environ[PASSWORD].encode() if environ.get(PASSWORD) else None
    try:
        config.use_elliptic_key_signer(private_key=key, password=password)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Refused(
            f"{key} cannot sign: {error}. Write a private key of an elliptic curve (PEM), as `openssl ecparam -name "
            f"prime256v1 -genkey -noout` makes it; its password, if it has one, is read from {PASSWORD}"
        ) from None
    _sign(config, folder)


def sign_with_identity(folder: Path, environ: Mapping[str, str]) -> None:
    """Write the signature of a folder with a certificate that Sigstore gives to an identity (keyless).

    Raises:
        Refused: Sigstore cannot be reached or gives no certificate, or the folder has links.
    """
    config = _config()
    from sigstore.errors import Error
    from sigstore.oidc import IdentityError, IssuerError

    try:
        config.use_sigstore_signer(use_ambient_credentials=True, identity_token=environ.get(TOKEN) or None)
        _sign(config, folder)
    except (Error, IdentityError, IssuerError, OSError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise Refused(
            f"the folder cannot be signed with an identity: {error or type(error).__name__}{cause}. This needs the "
            "network (tuf-repo-cdn.sigstore.dev, fulcio.sigstore.dev, rekor.sigstore.dev) and an identity: a browser, "
            f"a CI job that may ask for OpenID Connect tokens, or a token in {TOKEN}. Offline, sign with a key: --sign"
        ) from None


def _config() -> Config:
    try:
        from model_signing import hashing, signing
    except ModuleNotFoundError as error:
        raise Refused(
            f"signing needs {error.name}, which is not installed: pip install 'modeldeploy[signing]'"
        ) from None
    everything = hashing.Config().set_ignored_paths(paths=[Path(SIGNATURE)], ignore_git_paths=False)
    return signing.Config().set_hashing_config(everything)


def _sign(config: Config, folder: Path) -> None:
    try:
        config.sign(folder, folder / SIGNATURE)
    except ValueError as error:
        raise Refused(f"{folder} cannot be signed: {error}") from None
