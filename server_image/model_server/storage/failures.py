"""What to do about a storage that does not answer, by the kind of the failure; for the schemes' modules."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from urllib.request import getproxies

from model_server.errors import ArtifactTooLarge, StorageError, StorageUnavailable

_CERTIFICATE = re.compile(r"certificate|UnknownIssuer|SSL:|tls handshake", re.IGNORECASE)
_NAME = re.compile(
    r"name or service not known|name resolution|dns error|lookup address|nodename nor servname|getaddrinfo",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"connection refused|unreachable|no route", re.IGNORECASE)
_TIME = re.compile(r"timed? ?out|deadline", re.IGNORECASE)
#: Where a machine of a cloud is asked for its identity: what a library asks last, for want of credentials.
_IDENTITY = re.compile(r"/latest/api/token|/latest/meta-data|/computeMetadata/|/metadata/identity")
_PROXY = re.compile(r"proxy|tunnel", re.IGNORECASE)


def hint_for(text: str) -> str:
    """What to look at, from the text of a library's error; "" where it says nothing more than that it failed."""
    proxy = _proxy()
    if _IDENTITY.search(text):
        return (
            "There are no credentials, and this pod has no identity of the cloud: name a Secret with them in "
            "secretName, or give the ServiceAccount an identity."
        )
    if _CERTIFICATE.search(text):
        return (
            "The server's certificate is not trusted: name the certificates (PEM) of the authority that signed it in "
            "spec.model.ca, or in a file for MODEL_SERVER_CA_FILE."
        )
    if _NAME.search(text):
        return "The host's name was not found: check it in the URI or in the endpoint's setting, and the cluster's DNS."
    if proxy and (_PROXY.search(text) or _REFUSED.search(text) or _TIME.search(text)):
        return f"The request went through the proxy {proxy}: check that it answers, or list the host in NO_PROXY."
    if _REFUSED.search(text):
        return "Nothing answers at that address: check host and port, and that the storage runs."
    if _TIME.search(text):
        return "No answer came in time: check that a NetworkPolicy or a firewall lets this pod reach the address."
    return ""


def unreadable(uri: str, reason: str) -> StorageUnavailable:
    """The error for a storage that failed: a certificate that is not trusted is not trusted a second later."""
    error = StorageUnavailable(f"{uri} could not be read: {reason}", hint=hint_for(reason))
    return lasting(error) if is_of_certificate(reason) else error


def is_of_certificate(text: str) -> bool:
    """Whether a certificate is not trusted, by the text of a library's error."""
    return bool(_CERTIFICATE.search(text))


def lasting(error: StorageUnavailable) -> StorageUnavailable:
    """Mark an error that another attempt would end with too."""
    error.is_lasting = True
    return error


def disk_failure(error: OSError, uri: str, into: Path) -> StorageError | ArtifactTooLarge:
    """The error for a download that the disk of this pod did not take."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ArtifactTooLarge(f"{uri} does not fit into {into}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageUnavailable(
            f"{uri} cannot be written to {into} by user {os.getuid()}: {error.strerror}",
            hint="Check the volume at that path: its fsGroup, and that it is not read-only.",
        )
    return StorageUnavailable(
        f"{uri} cannot be written to {into}: {error.strerror}", hint="Look at the volume at that path, and its disk."
    )


def _proxy() -> str:
    """The proxy of the environment without its password, "" when there is none."""
    known = getproxies()
    return re.sub(r"//[^/@]*@", "//", known.get("https") or known.get("http") or "")
