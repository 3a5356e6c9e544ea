"""Signs in at a registry: `registry.py` sends its requests with it.

https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Generator, Iterator
from typing import cast

import httpx

from modeldeploy.baking.credentials import IDENTITY_TOKEN
from modeldeploy.requests import Refused

#: Tokens of registries have some thousands; an answer without end is no token.
_MOST_BYTES = 2**18
_PLAIN = {"accept-encoding": "identity"}
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class RegistryAuth(httpx.Auth):
    """Answers a challenge with name and password, or with a token that the registry's token service gives for them."""

    requires_response_body = False

    def __init__(self, base: httpx.URL, credentials: tuple[str, str]) -> None:
        self._base, (self._user, self._password) = base, credentials
        self._header = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        # Uploads may go to another host, which is none of the registry's.
        is_ours = (request.url.scheme, request.url.netloc) == (self._base.scheme, self._base.netloc)
        if is_ours and self._header:
            request.headers["authorization"] = self._header
        response = yield request
        challenge = response.headers.get("www-authenticate", "") if response.status_code == 401 and is_ours else ""
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic" and self._user:
            if self._header:  # refused already
                return
            self._header = _basic(self._user, self._password)
        elif kind.lower() == "bearer":
            answer = yield self._token_request(dict(_CHALLENGE.findall(rest)))
            self._header = _bearer(answer)
        # What is read from a package can be sent once; its upload was opened, and so allowed, a moment ago.
        if challenge and self._header and isinstance(request.stream, httpx.ByteStream):
            request.headers["authorization"] = self._header
            yield request

    def _token_request(self, asked: dict[str, str]) -> httpx.Request:
        realm = asked.pop("realm", "")
        if not realm.startswith(("https://", f"{self._base.scheme}://")):
            raise Refused(f"the registry names {realm!r} as its token service, which is not encrypted")
        asked.pop("error", None)
        if self._user == IDENTITY_TOKEN:
            form = {**asked, "grant_type": "refresh_token", "refresh_token": self._password, "client_id": "modeldeploy"}
            return httpx.Request("POST", realm, data=form, headers=_PLAIN)
        basic = {"authorization": _basic(self._user, self._password)} if self._user else {}
        # A challenge may want two scopes, that of the repository to mount from among them; each is a parameter.
        scopes = asked.pop("scope", "").split()
        return httpx.Request("GET", realm, params={**asked, "scope": scopes}, headers={**basic, **_PLAIN})


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _bearer(answer: httpx.Response) -> str:
    try:
        document = json.loads(_small(answer)) if answer.status_code == 200 else {}
        token = document.get("token") or document.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    return f"Bearer {token}" if isinstance(token, str) else ""


class _Limited(httpx.SyncByteStream):
    """The body of an answer, which is refused behind `_MOST_BYTES`; httpx reads it again, and finds it read."""

    def __init__(self, answer: httpx.Response) -> None:
        self._stream, self._host = answer.stream, answer.request.url.host

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in cast(httpx.SyncByteStream, self._stream):
            size += len(chunk)
            if size > _MOST_BYTES:
                raise Refused(f"{self._host} sends a token of more than {_MOST_BYTES} bytes: this is none")
            yield chunk

    def close(self) -> None:
        cast(httpx.SyncByteStream, self._stream).close()


def _small(answer: httpx.Response) -> bytes:
    if "content-encoding" in answer.headers:
        raise Refused(f"{answer.request.url.host} sends a compressed token, which was not asked for")
    answer.stream = _Limited(answer)
    return answer.read()
