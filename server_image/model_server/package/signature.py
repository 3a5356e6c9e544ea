"""Verifies the signature of a package in the OpenSSF model signing format, before anything is loaded; for `loader.py`.

The verification runs in a process of its own (`signature_check.py`): its library costs a second and 60 MiB, and reads
what nobody has vouched for yet.

https://github.com/ossf/model-signing-spec
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

from model_server.errors import (
    MOST_SHOWN,
    ArtifactNotFound,
    DependencyMissing,
    InternalError,
    SettingsInvalid,
    SignatureInvalid,
    SignatureMismatch,
    SignatureMissing,
    StartError,
    TrustRootUnavailable,
)
from model_server.package.child_environment import environment_of_child

#: Name of the signature in the root of a folder, as the format's own tools write it.
SIGNATURE = "model.sig"
#: What is appended to the URI of a package that is one file.
SUFFIX = ".sig"
#: Sigstore announces keys weeks before their first use; one that is withdrawn has to be known sooner.
_KEPT_SECONDS = 3600.0

_ERRORS: Mapping[str, type[StartError]] = {
    kind.__name__: kind for kind in (SettingsInvalid, SignatureInvalid, SignatureMismatch, TrustRootUnavailable)
}


class KeptTrustRoot:
    """Sigstore's keys as they were fetched last: a pool verifies at each load, and fetches them once an hour."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._text, self._fetched_at = clock, "", 0.0

    @property
    def text(self) -> str:
        """The trust configuration as JSON; empty where it has to be fetched."""
        return self._text if self._clock() - self._fetched_at < _KEPT_SECONDS else ""

    def keep(self, text: str) -> None:
        """Take what was fetched."""
        self._text, self._fetched_at = text, self._clock()


class Signer(Struct, frozen=True, kw_only=True):
    """Who has to have signed: the owner of a public key, or a certificate identity of Sigstore.

    Attributes:
        public_key: PEM file with a public key of the curve P-256, P-384 or P-521.
        identity: subject of the certificate, such as an email address or the URI of a workflow.
        issuer: OpenID Connect issuer that vouched for the identity.
        trust_config: JSON file with the trust root (ClientTrustConfig); without one, that of Sigstore is fetched.
    """

    public_key: Path | None = None
    identity: str = ""
    issuer: str = ""
    trust_config: Path | None = None

    def __str__(self) -> str:
        return f"{self.identity} (issuer {self.issuer})" if self.identity else "the owner of the public key"


def signature_of(package: Path, uri: str, fetch: Callable[[str], Path]) -> Path:
    """Return the signature's file: `model.sig` in a folder, what lies at the URI with `.sig` appended for one file.

    Args:
        package: the fetched file or folder.
        uri: where it was fetched from.
        fetch: brings what a URI names to disk.

    Raises:
        SignatureMissing: there is no such file.
        StorageError: the storage did not answer.
    """
    if package.is_dir():
        found = package / SIGNATURE
        if not found.is_file():
            raise SignatureMissing(f"the package has no {SIGNATURE}")
        return found
    try:
        return fetch(uri_of_signature(uri))
    except ArtifactNotFound as error:
        raise SignatureMissing(f"the package has no signature beside it: {error.message}") from None


def verify_signature(
    package: Path,
    signature: Path,
    signer: Signer,
    scratch: Path,
    environ: Mapping[str, str],
    kept: KeptTrustRoot | None = None,
) -> None:
    """Raise unless `signer` signed all files of the package, and nothing was added, changed or removed since.

    Args:
        package: a file or a folder that nobody else can write to.
        signature: a Sigstore bundle.
        signer: whose signature it has to be.
        scratch: a folder for the trust root.
        environ: for proxies and certificate authorities.
        kept: the trust root of earlier verifications; without one, that of this process.

    Raises:
        SignatureInvalid: it was made by somebody else, or cannot be read.
        SignatureMismatch: the files are not those that were signed.
        SettingsInvalid: the public key cannot be read.
        TrustRootUnavailable: the keys of Sigstore cannot be fetched.
        DependencyMissing: the library is not installed.
    """
    if importlib.util.find_spec("model_signing") is None:
        raise DependencyMissing(
            "verifying a signature needs model_signing, which is not installed",
            hint="Install modeldeploy[signing], or take the image that modeldeploy publishes.",
        )
    asked: dict[str, object] = {"package": package, "signature": signature}
    asked |= {name: getattr(signer, name) or None for name in signer.__struct_fields__}
    if signer.identity and signer.trust_config is None:
        asked["trust_root"] = _trust_root(kept or _OF_PROCESS, scratch, environ)
    answer = _ask(asked, scratch, environ)
    reason, message = answer["reason"], answer["message"]
    if reason:
        raise _ERRORS[reason](message if reason != SignatureInvalid.__name__ else f"not signed by {signer}: {message}")


def _trust_root(kept: KeptTrustRoot, scratch: Path, environ: Mapping[str, str]) -> str:
    """Return what is kept, or fetch it, in a process that reads nothing of a package: it is that of later ones too."""
    if text := kept.text:
        return text
    answer = _ask({"fetch": True}, scratch, environ)
    if answer["reason"]:
        raise _ERRORS[answer["reason"]](answer["message"])
    kept.keep(answer["trust_root"])
    return answer["trust_root"]


def _ask(asked: Mapping[str, object], scratch: Path, environ: Mapping[str, str]) -> dict[str, str]:
    homes = {"XDG_DATA_HOME": str(scratch / "data"), "XDG_CACHE_HOME": str(scratch / "cache"), "HOME": str(scratch)}
    done = subprocess.run(
        [sys.executable, "-I", "-m", "model_server.package.signature_check"],
        input=json.dumps(asked, default=str),
        capture_output=True,
        text=True,
        env=environment_of_child(environ) | homes,
    )
    try:
        answer = json.loads(done.stdout)
        return {name: str(answer[name]) for name in ("reason", "message", "trust_root")}
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or [""])[-1][:MOST_SHOWN]
        raise InternalError(f"the verification of the signature ended with {done.returncode}: {last}") from None


#: In memory: a file of it could be changed.
_OF_PROCESS = KeptTrustRoot()


def uri_of_signature(uri: str) -> str:
    """The URI of the signature of one file; a query (of a signed URL) stays behind the path."""
    if not uri.startswith(("http://", "https://")):
        return f"{uri}{SUFFIX}"
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(path=f"{parts.path}{SUFFIX}"))
