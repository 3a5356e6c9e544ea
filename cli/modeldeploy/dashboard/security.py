"""Who may ask the dashboard for what: this machine's user with the link, in a cluster whoever reaches the Service.

On a user's machine every page of every web site can send requests to loopback. Therefore the Host header has to be ours
(else a name of another site that leads to 127.0.0.1 would do: DNS rebinding), a random token has to be in a cookie that
no other site sends (SameSite=Strict), and a request that changes something has to come from a page of ours.
See https://owasp.org/www-community/attacks/csrf.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modeldeploy.dashboard.pages import message_page

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_SAFE = frozenset({"GET", "HEAD"})
#: Paths that show nothing of a cluster.
_OPEN = ("/static/", "/healthz")
_OTHER_HOST = "This address is not the dashboard's own. Open the link that the command has printed."
_NO_SESSION = "Open the link that modeldeploy dashboard has printed: it has the token of this session in it."
_OTHER_SITE = "The request comes from a page of another site, and is not done."
_NO_JSON = "Send the request as application/json."


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What is asked of a request. No `hosts` allow any, no `token` asks for no session."""

    hosts: frozenset[str] = frozenset()
    token: str = ""
    cookie: str = "modeldeploy"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered: HTTP status, and a sentence."""

    status: int
    message: str


def refusal_of(guard: Guard, method: str, path: str, headers: Mapping[str, str]) -> Refusal | None:
    """Return why a request is refused; None where it may pass."""
    host = headers.get("host", "")
    if guard.hosts and host not in guard.hosts:
        return Refusal(421, _OTHER_HOST)
    if path.startswith(_OPEN):
        return None
    if guard.token and not _is_equal(_cookie(headers.get("cookie", ""), guard.cookie), guard.token):
        return Refusal(401, _NO_SESSION)
    if method in _SAFE:
        return None
    if not _is_own_site(headers, host):
        return Refusal(403, _OTHER_SITE)
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return Refusal(415, _NO_JSON)
    return None


def _is_own_site(headers: Mapping[str, str], host: str) -> bool:
    """Whether a page of ours sent it, or no browser: browsers send Origin with everything that may change something."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == host


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _is_equal(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


class Security:
    """Refuses, starts sessions, and sets the headers of every answer."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        headers = Headers(scope=scope)
        path, method = scope["path"], scope["method"]
        if self._begins_session(method, path, headers, scope["query_string"].decode("latin-1")):
            await self._begin(send_with_headers)
            return
        refusal = refusal_of(self._guard, method, path, headers)
        if refusal is not None:
            await _refuse(refusal, headers.get("accept", ""), send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _begins_session(self, method: str, path: str, headers: Headers, query: str) -> bool:
        if not self._guard.token or method != "GET" or path != "/" or headers.get("host") not in self._guard.hosts:
            return False
        given = parse_qs(query).get("token", [""])[0]
        return _is_equal(given, self._guard.token)

    async def _begin(self, send: Send) -> None:
        """Put the token into a cookie, and leave it out of the address, which lands in histories."""
        cookie = f"{self._guard.cookie}={self._guard.token}; Path=/; HttpOnly; SameSite=Strict"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode())]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


async def _refuse(refusal: Refusal, accept: str, send: Send) -> None:
    is_page = "text/html" in accept
    body = message_page("Not allowed", refusal.message) if is_page else refusal.message
    media = b"text/html; charset=utf-8" if is_page else b"text/plain; charset=utf-8"
    await send({"type": "http.response.start", "status": refusal.status, "headers": [(b"content-type", media)]})
    await send({"type": "http.response.body", "body": body.encode()})
