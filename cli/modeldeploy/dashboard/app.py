"""The application: its routes, and one table of what each error is called over HTTP. `serve` runs it."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Header, Path, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, SecretStr
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from modeldeploy.asking import ANSWER_TIMEOUT
from modeldeploy.dashboard import callers, pages, streams
from modeldeploy.dashboard.callers import Callers, ReadOnly
from modeldeploy.dashboard.definition import schema
from modeldeploy.dashboard.places import Places, Reader
from modeldeploy.dashboard.pooled import Pools
from modeldeploy.dashboard.sampling import Sampler
from modeldeploy.dashboard.security import Guard, Security
from modeldeploy.dashboard.store import Key, Store
from modeldeploy.dashboard.trying import KeyNeeded, Trial
from modeldeploy.dashboard.view.actions import Moved
from modeldeploy.dashboard.view.model import ModelView, Unreadable, model_view
from modeldeploy.dashboard.view.prediction import BadValue, Form, NoForm, body_from_json, body_of
from modeldeploy.dashboard.view.rows import Filter
from modeldeploy.fleet.rates import Rates
from modeldeploy.fleet.report import UNASKED_AFTER, fleet_of
from modeldeploy.kube import KubeconfigError, KubeError, KubeUnreachable
from modeldeploy.plain import plain
from modeldeploy.requests import NoAnswer, Refused
from modeldeploy.session import UnknownName

#: Streams that are open at once; one user of one address has 50 of them at most.
MOST_STREAMS = 200
#: Seconds after which a page that had no place may ask again.
_AGAIN = "10"
#: HTTP status of each error that a request can end with; a KubeError has its own.
STATUS_OF: Mapping[type[Exception], int] = {
    BadValue: 422,
    KubeUnreachable: 502,
    KubeconfigError: 502,
    KeyNeeded: 403,
    Moved: 409,
    NoAnswer: 504,
    NoForm: 502,
    ReadOnly: 401,
    Refused: 409,
    UnknownName: 404,
    Unreadable: 500,
}

Authorization = Annotated[str, Header()]
#: Names of Kubernetes: nothing else gets into a path of the API server.
Name = Annotated[str, Path(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]


class Act(BaseModel):
    """The body of an action: what the confirmation has shown, and for undo the revision."""

    model_config = ConfigDict(extra="forbid")
    state: str = ""
    revision: str = ""


class WithKey(BaseModel):
    """The API key of a model, if it asks for one; in a body, since addresses land in logs."""

    model_config = ConfigDict(extra="forbid")
    api_key: SecretStr = SecretStr("")


class Try(WithKey):
    """The body of a prediction or explanation: the values of the form, or the request as JSON."""

    values: dict[str, str] = {}
    json_text: str = ""

    def body(self, form: Form) -> dict[str, Any]:
        """Return the body of the request. Raises `BadValue`."""
        return body_from_json(self.json_text) if self.json_text else body_of(form, self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """What the routes need. `cluster` is shown in the head of each page."""

    store: Store
    sampler: Sampler
    callers: Callers
    pools: Pools
    cluster: str
    rates: Rates | None = None
    answer_timeout: float = ANSWER_TIMEOUT

    async def view(self, key: Key) -> ModelView | None:
        """Return the page of one model; None where there is none. Raises `Unreadable`."""
        stored, row = self.store.models.get(key), self.store.row(key)
        if stored is None or row is None:
            return None
        answers = await self.sampler.details(key)
        pods, events = self.store.pods(key), self.store.events(key)
        now = datetime.now(UTC)
        return await asyncio.to_thread(lambda: model_view(stored.body(), row, pods, events, answers, schema(), now=now))


def build(dashboard: Dashboard, guard: Guard) -> FastAPI:
    """Return the application."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Security, guard=guard)
    app.mount("/static", StaticFiles(directory=str(files("modeldeploy.dashboard") / "static")))
    _add_pages(app, dashboard)
    _add_streams(app, dashboard)
    _add_requests(app, dashboard)
    _add_trials(app, dashboard)
    _add_errors(app, dashboard.cluster)

    @app.get("/healthz")
    async def healthz() -> Response:
        return PlainTextResponse("ok")

    return app


def _add_pages(app: FastAPI, dashboard: Dashboard) -> None:
    store = dashboard.store

    @app.get("/")
    async def models(name: str = "", namespace: str = "", phase: str = "", label: str = "") -> Response:
        chosen = Filter(name=name, namespace=namespace, phase=phase, label=label)
        page = pages.list_page(
            store.rows(),
            chosen,
            store.notices,
            cluster=dashboard.cluster,
            is_loaded=store.is_loaded,
            cursor=store.cursor,
        )
        return HTMLResponse(page)

    @app.get("/fleet")
    async def fleet() -> Response:
        found = fleet_of(store.uses(), dashboard.rates, now=datetime.now(UTC), unasked_after=UNASKED_AFTER)
        return HTMLResponse(pages.fleet_page(found, store.notices, cluster=dashboard.cluster))

    # Not coroutines: they ask the API server and the pods, in threads of the framework.
    @app.get("/pools")
    def pools() -> Response:
        return HTMLResponse(pages.pools_page(dashboard.pools.all(), store.notices, cluster=dashboard.cluster))

    @app.get("/pools/{namespace}/{name}")
    def pool(namespace: Name, name: Name) -> Response:
        view = dashboard.pools.view(namespace, name)
        return HTMLResponse(pages.pool_page(view, store.notices, cluster=dashboard.cluster))

    @app.get("/models/{namespace}/{name}")
    async def model(namespace: Name, name: Name, authorization: Authorization = "") -> Response:
        view = await dashboard.view((namespace, name))
        if view is None:
            raise UnknownName(f"There is no ModelDeployment {name!r} in namespace {namespace!r}.")
        can_act = dashboard.callers.can_act(authorization)
        return HTMLResponse(pages.model_page(view, store.notices, cluster=dashboard.cluster, can_act=can_act))


def _add_streams(app: FastAPI, dashboard: Dashboard) -> None:
    store, places = dashboard.store, Places(MOST_STREAMS)

    @app.get("/events")
    async def list_events(since: str = "", last_event_id: Annotated[str, Header()] = "") -> Response:
        return _Stream(streams.list_stream(store, last_event_id or since), places)

    @app.get("/models/{namespace}/{name}/events")
    async def model_events(namespace: Name, name: Name, authorization: Authorization = "") -> Response:
        key, can_act = (namespace, name), dashboard.callers.can_act(authorization)

        async def parts() -> dict[str, str] | None:
            try:
                view = await dashboard.view(key)
            except Unreadable as error:
                return {"head": pages.notices_part({"models": str(error)})}
            return None if view is None else pages.model_parts(view, can_act=can_act)

        return _Stream(streams.model_stream(store, key, parts), places)


class _Stream(StreamingResponse):
    """Server-sent events to who has a place, which is given back however the connection ends."""

    def __init__(self, stream: AsyncIterator[str], places: Places) -> None:
        super().__init__(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client") or ("", 0)
        reader = Reader(address=client[0], token=Headers(scope=scope).get("authorization", ""))
        with self._places.taken(reader) as status:
            if not status:
                await super().__call__(scope, receive, send)
                return
        whose = "here" if status == 503 else "by you: close some"
        refused = PlainTextResponse(f"Too many pages are open {whose}.", status, {"Retry-After": _AGAIN})
        await refused(scope, receive, send)


def _add_requests(app: FastAPI, dashboard: Dashboard) -> None:
    @app.post("/models/{namespace}/{name}/actions/{verb}")
    def act(namespace: Name, name: Name, verb: str, asked: Act, authorization: Authorization = "") -> dict[str, Any]:
        with dashboard.callers.kube_of(authorization) as kube:
            message = callers.act(
                kube,
                namespace,
                name,
                verb,
                state=asked.state,
                revision=asked.revision,
                timeout=dashboard.answer_timeout,
            )
        return {"message": message}


def _add_trials(app: FastAPI, dashboard: Dashboard) -> None:
    store = dashboard.store

    @contextmanager
    def trial(namespace: str, name: str, asked: WithKey, authorization: str) -> Iterator[Trial]:
        scheme, key = callers.scheme_of(store.pods((namespace, name))), asked.api_key.get_secret_value()
        with dashboard.callers.kube_of(authorization) as kube:
            yield Trial(kube=kube, namespace=namespace, name=name, scheme=scheme, api_key=key)

    @app.post("/models/{namespace}/{name}/form")
    def form(namespace: Name, name: Name, asked: WithKey, authorization: Authorization = "") -> Response:
        with trial(namespace, name, asked, authorization) as model:
            try:
                return HTMLResponse(pages.form_part(*model.form()))
            except KeyNeeded as error:  # its document is protected too
                return HTMLResponse(pages.key_part(str(error), is_first=not asked.api_key.get_secret_value()))

    @app.post("/models/{namespace}/{name}/prediction")
    def predict(namespace: Name, name: Name, asked: Try, authorization: Authorization = "") -> dict[str, Any]:
        with trial(namespace, name, asked, authorization) as model:
            status, answer = model.predict(asked.body)
        return {"status": status, "answer": answer}

    @app.post("/models/{namespace}/{name}/explanation")
    def explain(namespace: Name, name: Name, asked: Try, authorization: Authorization = "") -> dict[str, Any]:
        with trial(namespace, name, asked, authorization) as model:
            status, answer, explained = model.explain(asked.body)
        html = "" if explained is None else pages.explanation_part(explained)
        return {"status": status, "answer": answer, "html": html}


def _add_errors(app: FastAPI, cluster: str) -> None:
    async def answer(request: Request, error: Exception) -> Response:
        status = error.code if isinstance(error, KubeError) else STATUS_OF[type(error)]
        message = str(plain(_sentence(error)))
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(
                pages.message_page("Not found" if status == 404 else "It did not work", message), status
            )
        return JSONResponse({"message": message}, status)

    for kind in (*STATUS_OF, KubeError):
        app.add_exception_handler(kind, answer)


def _sentence(error: Exception) -> str:
    """Return an error as a sentence."""
    text = str(error)
    if isinstance(error, KubeError) and error.code == 403 and not text.startswith("You "):
        text = f"You are not allowed to do this. {text}"
    if isinstance(error, NoForm):
        text = f"The model cannot be tried from here: {text}"
    return text if text.endswith((".", "?")) else f"{text}."
