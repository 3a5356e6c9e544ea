"""One request on its way through the API server."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from aiohttp import web

from model_sandbox.apiserver import auth, bodies, errors, requests
from model_sandbox.apiserver.auth import User
from model_sandbox.apiserver.errors import Obj
from model_sandbox.apiserver.requests import Write
from model_sandbox.apiserver.schema import Node
from model_sandbox.apiserver.store import Key


@dataclass(slots=True)
class Call:
    """One request on its way through the server; what its path is about is known after routing."""

    request: web.Request
    now: str
    path: str
    user: User = auth.ANONYMOUS
    prefix: str = ""  # the path credential, see ApiServer._credentials
    watch: bool = False
    namespace: str | None = None  # None: all of them
    name: str = ""
    part: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def key(self) -> Key:
        """What the store knows the object by."""
        return self.namespace or "", self.name

    @property
    def media(self) -> str:
        """The type of the body."""
        return self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def accept(self) -> str:
        """The form of answer that is asked for."""
        return self.request.headers.get("Accept", "")

    def write(self, repeated: tuple[str, ...] = ()) -> Write:
        """The parameters of a write; raises 422."""
        agent = self.request.headers.get("User-Agent", "")
        write = requests.write_options(self.request.query, agent, self.now, self.request.method)
        return replace(write, warnings=self.warnings, duplicates=repeated)

    async def body(self, kind: str, node: Node) -> tuple[Obj, tuple[str, ...]]:
        """The body of a POST, PUT or DELETE and its repeated keys; raises 400 or 415."""
        return bodies.parse_body(await self.request.read(), self.media, kind, node)

    async def patch(self) -> tuple[str, bytes]:
        """The form and the text of a PATCH; raises 415."""
        form = bodies.PATCHES.get(self.media)
        if form is None:
            raise errors.unsupported_media_type()
        return form, await self.request.read()
