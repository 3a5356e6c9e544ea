"""The connection to the API server, by the official client: its address, the credentials, and one HTTP session.

Typed calls (Leases, the version) go through `Connection.api`, an `ApiClient` of `kubernetes.aio`. All other requests
use its session and its credentials without its models, which cost three times the processor time of a request and,
with the core API's models alone, 24 MB of memory (docs/decisions/0011).
"""

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import yaml
from aiohttp import ClientHandlerType as Handler
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from model_operator.clients.proxy import proxy_of
from model_operator.errors import OperatorError

#: Path of the ServiceAccount token in a pod.
_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_DEFAULT_KUBECONFIG = Path("~/.kube/config")


class NoConnection(OperatorError):
    """No configuration for the API server was found, or it cannot be read; the message has the path and the cause."""


class Connection:
    """One session with one API server; `close` it."""

    def __init__(self, configuration: Configuration, headers: Mapping[str, str], loader: Any = None) -> None:
        self.configuration = configuration
        # The session would look for a proxy and for a password in ~/.netrc before each request, in two threads.
        configuration.client_session_kwargs = {"trust_env": False}
        self.api = ApiClient(configuration)
        for name, value in headers.items():
            self.api.set_default_header(name, value)
        self._headers = dict(headers)
        # The library creates its session at the first typed call; the hot path may need it earlier.
        self._rest = self.api.rest_client
        self._rest.pool_manager = self._session = self._rest._create_pool_manager()
        self._refreshing = self._refresh(loader)

    @classmethod
    async def open(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Connect as KUBECONFIG says if it is set, else as the pod's ServiceAccount, else as ~/.kube/config says.

        Raises:
            NoConnection: none of the three exists, or the kubeconfig cannot be read.
        """
        configuration = Configuration()
        configuration.client_side_validation = False
        path = _kubeconfig(environment)
        if path is None:
            try:
                config.load_incluster_config(client_configuration=configuration)
            except config.ConfigException as error:
                raise NoConnection(f"the pod's ServiceAccount cannot be used: {error}") from error
            configuration.proxy = proxy_of(configuration.host, environment)
            return cls(configuration, {})
        loader = await _load(path, configuration)
        configuration.proxy = configuration.proxy or proxy_of(configuration.host, environment)
        try:
            return cls(configuration, _impersonation(loader), loader)
        except (OSError, ssl.SSLError) as error:
            raise NoConnection(f"the certificates of the kubeconfig {path} cannot be used: {error}") from error

    @property
    def server(self) -> str:
        """URL of the API server, without a trailing slash."""
        return str(self.configuration.host).rstrip("/")

    async def addresses(self) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]:
        """Return the addresses of the API server; none while its name is not resolved."""
        host = urlsplit(self.server).hostname or ""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            return ()
        return tuple({ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found})

    async def headers(self) -> dict[str, str]:
        """Return the authentication headers; the token of a ServiceAccount is read again each minute."""
        token = await self.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return {**self._headers, **({"Authorization": token} if token else {})}

    async def request(self, method: str, path: str, *, headers: Mapping[str, str], **options: Any) -> Any:
        """Start a request on the library's session and return the response, whose body is not read yet.

        Raises:
            aiohttp.ClientError, TimeoutError: there was no answer.
        """
        return await self._session.request(
            method,
            self.server + path,
            headers={**await self.headers(), **headers},
            proxy=self._rest.proxy,
            server_hostname=self.configuration.tls_server_name,
            **options,
        )

    def session(self) -> aiohttp.ClientSession:
        """Return another session with the same credentials, for a library that sends its own requests."""

        async def authenticate(request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
            request.headers.update(await self.headers())
            request.server_hostname = self.configuration.tls_server_name
            return await handler(request)

        connector = aiohttp.TCPConnector(ssl=self._rest.ssl_context)
        return aiohttp.ClientSession(connector=connector, proxy=self._rest.proxy, middlewares=(authenticate,))

    async def close(self) -> None:
        """End the session and the requests on it."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refreshing
        await self.api.close()

    def _refresh(self, loader: Any) -> "asyncio.Task[None] | None":
        """Keep the token of an exec plugin fresh."""
        if loader is None or "exec" not in (loader._user or ()):
            return None
        refreshing = config.refresh_token(loader, client_configuration=self.configuration)
        return asyncio.create_task(refreshing, name="refresh-token")


def _kubeconfig(environment: Mapping[str, str]) -> str | None:
    """Return the path of the kubeconfig, or several paths separated by colons; None in a pod without one."""
    named = environment.get("KUBECONFIG", "")
    if not named and _TOKEN.exists():
        return None
    path = named or str(_DEFAULT_KUBECONFIG.expanduser())
    if not any(Path(one).expanduser().exists() for one in path.split(os.pathsep) if one):
        raise NoConnection(
            f"cannot connect to the API server: the kubeconfig {path} does not exist;"
            " set KUBECONFIG, or run in a pod with a ServiceAccount"
        )
    return path


async def _load(path: str, configuration: Configuration) -> Any:
    """Read a kubeconfig into a configuration; return the library's loader."""
    try:
        loader = await config.load_kube_config(config_file=path, client_configuration=configuration)
    except (config.ConfigException, OSError, yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        # The library does not validate the file, and raises many types of errors if it is malformed.
        why = " ".join(str(error).split()) or type(error).__name__
        raise NoConnection(f"the kubeconfig {path} cannot be read: {why}") from error
    user = loader._user
    if user is not None and "exec" in user and not (hasattr(loader, "token") or hasattr(loader, "cert_file")):
        command = user["exec"]["command"]
        raise NoConnection(f"the kubeconfig {path} gets its credentials from {command!r}, which returned none")
    return loader


def _impersonation(loader: Any) -> dict[str, str]:
    """Return the headers for `as` and `as-uid` of a kubeconfig's user, which the library ignores.

    https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation
    """
    user = loader._user.value if loader._user is not None else {}
    if user.get("as-groups") or user.get("as-user-extra"):
        raise NoConnection("the operator impersonates a user by `as` alone; remove as-groups and as-user-extra")
    named = (("Impersonate-User", user.get("as")), ("Impersonate-Uid", user.get("as-uid")))
    return {header: value for header, value in named if value}
