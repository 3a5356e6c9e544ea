"""A small client of the Kubernetes API: what the controllers, the node and the proxy talk through.

It knows nothing of the sandbox: any kubeconfig with a bearer token (or none) will do.
"""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
import yaml

Obj = dict[str, Any]
MERGE = "application/merge-patch+json"


class ApiFailure(Exception):
    """An answer of 400 or more. `body` is the Status."""

    def __init__(self, code: int, body: Obj) -> None:
        super().__init__(f"{code} {body.get('reason', '')}: {body.get('message', '')}")
        self.code = code
        self.body = body


@dataclass(frozen=True, slots=True)
class Connection:
    """Where an API server is and how to log in."""

    url: str
    token: str = ""
    tls: ssl.SSLContext | bool = True
    trust: Obj = field(default_factory=dict)  # the fields of the kubeconfig's cluster that say whom to trust


def read_kubeconfig(path: Path) -> Connection:
    """The current context of a kubeconfig. Raises ValueError when something is missing."""
    config = yaml.safe_load(path.read_text()) or {}
    by_name = {
        kind: {one["name"]: one[kind.removesuffix("s")] for one in config.get(kind) or []}
        for kind in ("clusters", "contexts", "users")
    }
    current = config.get("current-context", "")
    if current not in by_name["contexts"]:
        known = ", ".join(by_name["contexts"]) or "none"
        raise ValueError(f"{path}: current-context {current!r} is not among its contexts ({known})")
    context = by_name["contexts"][current]
    cluster, user = by_name["clusters"][context["cluster"]], by_name["users"].get(context.get("user"), {})
    return Connection(cluster["server"].rstrip("/"), user.get("token", ""), _tls(cluster, user), _trust(cluster))


def write_kubeconfig(path: Path, url: str, token: str, *, namespace: str = "default", trust: Obj | None = None) -> None:
    """A kubeconfig with a bearer token; only its owner may read it.

    Over plain HTTP, the sandbox's own way, Go clients (kubectl, Helm) send no token: there the path says it too.
    """
    name = "model-sandbox"
    if url.startswith("http://") and token:
        url = f"{url.partition('/as/')[0]}/as/{token}"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": url, **(trust or {})}}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def _tls(cluster: Obj, user: Obj) -> ssl.SSLContext | bool:
    if not cluster["server"].startswith("https"):
        return True
    context = ssl.create_default_context()
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif cluster.get("certificate-authority-data"):
        context.load_verify_locations(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    elif cluster.get("certificate-authority"):
        context.load_verify_locations(cafile=cluster["certificate-authority"])
    if user.get("client-certificate"):
        context.load_cert_chain(user["client-certificate"], user["client-key"])
    elif user.get("client-certificate-data"):
        # The ssl module reads key pairs from files only; this one is gone again at once.
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(b"\n".join(base64.b64decode(user[f"client-{name}-data"]) for name in ("certificate", "key")))
            pair.flush()
            context.load_cert_chain(pair.name)
    return context


def _trust(cluster: Obj) -> Obj:
    names = ("certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify", "tls-server-name")
    return {name: cluster[name] for name in names if name in cluster}


@dataclass(slots=True)
class Client:
    """Requests to one API server. Use as an async context manager."""

    connection: Connection
    agent: str
    _session: aiohttp.ClientSession | None = field(default=None, init=False)

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session. Raises RuntimeError outside of the client's context."""
        if self._session is None:
            raise RuntimeError("use the client as a context manager")
        return self._session

    async def __aenter__(self) -> Self:
        headers = {"User-Agent": self.agent, "Accept": "application/json"}
        if self.connection.token:
            headers["Authorization"] = f"Bearer {self.connection.token}"
        connector = aiohttp.TCPConnector(limit=0, ssl=self.connection.tls)
        timeout = aiohttp.ClientTimeout(total=60, sock_connect=10)
        self._session = aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, method: str, path: str, body: Any = None, *, media: str = "application/json") -> Obj:
        """One request; raises ApiFailure, or aiohttp.ClientError when the server does not answer."""
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": media} if data is not None else {}
        async with self.session.request(method, self.connection.url + path, data=data, headers=headers) as response:
            text = await response.read()
            try:
                answer = orjson.loads(text) if text else {}
            except orjson.JSONDecodeError:
                answer = {"message": text[:200].decode(errors="replace")}
            if response.status >= 400:
                raise ApiFailure(response.status, answer)
            return answer if isinstance(answer, dict) else {}

    async def get(self, path: str) -> Obj | None:
        """An object, or None when there is none."""
        try:
            return await self.send("GET", path)
        except ApiFailure as failure:
            if failure.code == 404:
                return None
            raise

    async def merge(self, path: str, body: Obj) -> Obj:
        """A merge patch."""
        return await self.send("PATCH", path, body, media=MERGE)

    async def delete(self, path: str, **options: Any) -> None:
        """Delete; an object that is gone already is no error."""
        try:
            await self.send("DELETE", path, options or None)
        except ApiFailure as failure:
            if failure.code not in (404, 409):
                raise

    async def watch(self, path: str, version: str) -> AsyncIterator[tuple[str, Obj]]:
        """The events of a watch until the server ends it."""
        joint = "&" if "?" in path else "?"
        url = f"{self.connection.url}{path}{joint}watch=true&allowWatchBookmarks=true&resourceVersion={version}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with self.session.get(url, timeout=timeout) as response:
            if response.status >= 400:
                raise ApiFailure(response.status, {"message": (await response.text())[:200]})
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line:
                        event = orjson.loads(line)
                        yield event["type"], event["object"]
