"""Credentials for web requests, from a Secret in the namespace of the resource."""

import base64
import re
from collections.abc import Awaitable, Callable, Mapping

from model_operator.errors import ApiError, ProviderError

_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")

#: The user in a refusal of the API server.
_USER = re.compile(r'User "([^"]+)"')
#: Reads a Secret by namespace and name. Raises ApiError.
ReadSecret = Callable[[str, str], Awaitable[Mapping[str, str]]]


async def secret_of(read: ReadSecret, namespace: str, name: str) -> Mapping[str, str]:
    """Return the decoded data of a Secret.

    Raises:
        ProviderError: the Secret does not exist, or the operator may not read it.
    """
    if not _DNS_SUBDOMAIN.fullmatch(name):
        raise ProviderError(f"Secret {name!r}: this is no name of a Secret; write lower-case letters, digits, - and .")
    try:
        return await read(namespace, name)
    except ApiError as error:
        raise ProviderError(f"Secret {name}: {_why_unread(error, namespace, name)}") from error


def authorization(held: Mapping[str, str]) -> Mapping[str, str] | None:
    """Return the Authorization header for `token`, or for `username` and `password`; None if the Secret has neither."""
    if "token" in held:
        return {"Authorization": f"Bearer {held['token'].strip()}"}
    if "username" in held and "password" in held:
        pair = f"{held['username']}:{held['password']}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return None


def keys_of(held: Mapping[str, str]) -> str:
    """Return the names of a Secret's keys, for messages; never their values."""
    return ", ".join(sorted(held)) or "none"


def _why_unread(error: ApiError, namespace: str, name: str) -> str:
    if error.status == 403:
        user = _USER.search(error.message)
        subject = user[1] if user else "the ServiceAccount of the operator"
        return (
            f"the operator may not read it: make a Role in namespace {namespace} with the verb get on the Secret {name}"
            f", and bind it to {subject} (docs/teams.md), or ask the"
            f" administrator of the cluster to add {namespace} to rbac.secretNamespaces of the chart"
        )
    return "it does not exist" if error.is_absent else str(error)
