"""The routes: what each path does with the served model. `app.py` finds them and writes what they return."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from model_server import version
from model_server.errors import MethodNotAllowed, UnknownModel, UnknownRoute
from model_server.http import Request, Response, json_response
from model_server.lifecycle import Lifecycle, Loaded, Phase
from model_server.protocols import mlflow, plain, v2
from model_server.protocols.call import require_object
from model_server.telemetry import CONTENT_TYPE, OPENMETRICS, Telemetry
from model_server.tensors import Outputs

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One path for one method.

    `predicts` marks what counts as a prediction in the metrics, `is_open` what needs no API key: probes,
    metrics and the documentation.
    """

    method: str
    path: str
    handler: Handler
    predicts: bool = False
    is_open: bool = False

    @property
    def pattern(self) -> re.Pattern[str]:
        """The path as a regular expression; `{name}` matches one segment without a colon."""
        return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/:]+)", re.escape(self.path)))


class Routes:
    """Finds the route of a request: exact paths in one look-up, paths with names in them by pattern."""

    def __init__(self, routes: list[Route]) -> None:
        self._exact = {(route.method, route.path): route for route in routes if "{" not in route.path}
        self._patterns = [(route.pattern, route) for route in routes if "{" in route.path]
        self._paths = sorted({route.path for route in routes})

    def alias(self, path: str, of: str) -> None:
        """Also find the POST route with names in its path under one exact path, which is faster."""
        for pattern, route in self._patterns:
            if route.method == "POST" and route.path == of and pattern.fullmatch(path):
                self._exact["POST", path] = route

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and the names in the path. Raises UnknownRoute or MethodNotAllowed."""
        route = self._exact.get((method, path))
        if route is not None:
            return route, {}
        wanted = "GET" if method == "HEAD" else method
        allowed = set()
        for candidate, params in self._at(path):
            if candidate.method == wanted:
                return candidate, params
            allowed.add(candidate.method)
        if allowed:
            if "GET" in allowed:
                allowed.add("HEAD")
            raise MethodNotAllowed(
                f"{path} answers {', '.join(sorted(allowed))}, not {method}", allowed=sorted(allowed)
            )
        raise UnknownRoute(f"there is nothing at {path}", hint=f"Known paths: {', '.join(self._paths)}.")

    def _at(self, path: str) -> list[tuple[Route, dict[str, str]]]:
        found = [(route, dict[str, str]()) for (_, known), route in self._exact.items() if known == path]
        return found + [
            (route, match.groupdict()) for pattern, route in self._patterns if (match := pattern.fullmatch(path))
        ]


class Handlers:
    """The handlers of one server: they decode, ask the batcher, and encode."""

    def __init__(self, lifecycle: Lifecycle, telemetry: Telemetry, *, name: str, max_rows: int) -> None:
        self._lifecycle = lifecycle
        self._telemetry = telemetry
        self._name = name
        self._max_rows = max_rows

    def routes(self) -> list[Route]:
        """All routes but the documentation's."""
        return [
            Route("POST", "/predict", self.predict, predicts=True),
            Route("POST", "/invocations", self.invocations, predicts=True),
            Route("GET", "/ping", self.ping, is_open=True),
            Route("GET", "/health", self.ping, is_open=True),
            Route("GET", "/version", self.version, is_open=True),
            Route("POST", "/feedback", self.feedback),
            Route("GET", "/v1/models/{model}", self.v1_model),
            Route("POST", "/v1/models/{model}:predict", self.v1_predict, predicts=True),
            Route("GET", "/v1/models", self.v1_models),
            Route("GET", "/v2", self.v2_server, is_open=True),
            Route("GET", "/v2/health/live", self.v2_live, is_open=True),
            Route("GET", "/v2/health/ready", self.v2_ready, is_open=True),
            Route("GET", "/v2/models/{model}", self.v2_model),
            Route("GET", "/v2/models/{model}/ready", self.v2_model_ready),
            Route("POST", "/v2/models/{model}/infer", self.v2_infer, predicts=True),
            Route("GET", "/v2/models/{model}/versions/{version}", self.v2_model),
            Route("GET", "/v2/models/{model}/versions/{version}/ready", self.v2_model_ready),
            Route("POST", "/v2/models/{model}/versions/{version}/infer", self.v2_infer, predicts=True),
            Route("GET", "/livez", self.livez, is_open=True),
            Route("GET", "/readyz", self.readyz, is_open=True),
            Route("GET", "/metrics", self.metrics, is_open=True),
        ]

    async def predict(self, request: Request) -> Response:
        """`POST /predict`."""
        return await self._answer(request, ignored=frozenset())

    async def _answer(self, request: Request, *, ignored: frozenset[str]) -> Response:
        served = self._lifecycle.served
        loaded = served.loaded
        began = time.perf_counter()
        call = plain.decode(request, loaded.layout, loaded.model, max_rows=self._max_rows, ignored=ignored)
        self._telemetry.decoded(time.perf_counter() - began)
        outputs = await served.batcher.submit(call.inputs, probabilities=call.probabilities, trace=request.trace)
        served.watcher.predicted(request.id, call.inputs, outputs, request.body)
        return self._plain(outputs, loaded, probabilities=call.probabilities)

    def _plain(self, outputs: Outputs, loaded: Loaded, *, probabilities: bool) -> Response:
        began = time.perf_counter()
        body = plain.encode(outputs, loaded.model, loaded.identity, probabilities=probabilities)
        self._telemetry.encoded(time.perf_counter() - began)
        return Response(200, body)

    async def invocations(self, request: Request) -> Response:
        """`POST /invocations`, as MLflow's clients ask."""
        served = self._lifecycle.served
        loaded = served.loaded
        began = time.perf_counter()
        call = mlflow.decode(request, loaded.layout, max_rows=self._max_rows)
        self._telemetry.decoded(time.perf_counter() - began)
        outputs = await served.batcher.submit(call.inputs, trace=request.trace)
        served.watcher.predicted(request.id, call.inputs, outputs, request.body)
        return self._plain(outputs, loaded, probabilities=False)

    async def ping(self, request: Request) -> Response:
        """`GET /ping` and `GET /health`: MLflow's readiness."""
        return json_response({}, 200 if self._is_ready else 503)

    async def version(self, request: Request) -> Response:
        """`GET /version`: MLflow's clients ask for the server's."""
        return Response(200, version().encode(), b"text/plain; charset=utf-8")

    async def feedback(self, request: Request) -> Response:
        """`POST /feedback`."""
        self._lifecycle.served.watcher.labelled(require_object(request.json()))
        return json_response({"status": "ok"})

    async def v1_predict(self, request: Request) -> Response:
        """`POST /v1/models/{model}:predict`."""
        self._require_model(request.params)
        return await self._answer(request, ignored=frozenset({"signature_name"}))

    async def v1_models(self, request: Request) -> Response:
        """`GET /v1/models`."""
        return json_response({"models": [self._name]})

    async def v1_model(self, request: Request) -> Response:
        """`GET /v1/models/{model}`: 503 while it is not ready, as KServe answers."""
        self._require_model(request.params)
        ready = self._is_ready
        return json_response({"name": self._name, "ready": ready}, 200 if ready else 503)

    async def v2_infer(self, request: Request) -> Response:
        """`POST /v2/models/{model}[/versions/{version}]/infer`."""
        self._require_model(request.params)
        served = self._lifecycle.served
        loaded = served.loaded
        began = time.perf_counter()
        call = v2.decode(request, loaded.layout, loaded.model, loaded.outputs, max_rows=self._max_rows)
        self._telemetry.decoded(time.perf_counter() - began)
        outputs = await served.batcher.submit(call.inputs, probabilities=call.probabilities, trace=request.trace)
        served.watcher.predicted(request.id, call.inputs, outputs, request.body)
        began = time.perf_counter()
        response = v2.encode(outputs, call, loaded.identity)
        self._telemetry.encoded(time.perf_counter() - began)
        return response

    async def v2_server(self, request: Request) -> Response:
        """`GET /v2`."""
        return json_response({"name": "modeldeploy", "version": version(), "extensions": ["binary_tensor_data"]})

    async def v2_live(self, request: Request) -> Response:
        """`GET /v2/health/live`."""
        return json_response({"live": True})

    async def v2_ready(self, request: Request) -> Response:
        """`GET /v2/health/ready`."""
        return json_response({"ready": self._is_ready}, 200 if self._is_ready else 503)

    async def v2_model(self, request: Request) -> Response:
        """`GET /v2/models/{model}[/versions/{version}]`."""
        self._require_model(request.params)
        return json_response(v2.model_metadata(self._lifecycle.served.loaded))

    async def v2_model_ready(self, request: Request) -> Response:
        """`GET /v2/models/{model}[/versions/{version}]/ready`."""
        self._require_model(request.params)
        return json_response({"name": self._name, "ready": self._is_ready}, 200 if self._is_ready else 503)

    async def livez(self, request: Request) -> Response:
        """`GET /livez`: the event loop turns."""
        return json_response({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """`GET /readyz`: the phase, and 200 only when predictions are answered."""
        phase, message = self._lifecycle.phase, self._lifecycle.message
        if phase is Phase.READY and not self._is_ready:
            phase, message = Phase.LOADING, "waiting for the other workers"
        document = {"phase": phase, "message": message}
        return json_response(document, 200 if self._is_ready else 503)

    async def metrics(self, request: Request) -> Response:
        """`GET /metrics`; OpenMetrics, with exemplars, for a scraper that takes it."""
        if b"application/openmetrics-text" in request.headers.get(b"accept", b""):
            return Response(200, self._telemetry.render_openmetrics(), OPENMETRICS.encode())
        return Response(200, self._telemetry.render(), CONTENT_TYPE.encode())

    @property
    def _is_ready(self) -> bool:
        return self._lifecycle.phase is Phase.READY and self._telemetry.is_ready_everywhere

    def _require_model(self, params: Mapping[str, str]) -> None:
        if params and params["model"] != self._name:
            raise UnknownModel(
                f"model {params['model']!r} is not served here", hint=f"This server serves {self._name!r}."
            )
        if "version" in params:
            loaded: Loaded = self._lifecycle.served.loaded
            if params["version"] != loaded.identity.version:
                raise UnknownModel(
                    f"version {params['version']!r} is not served here",
                    hint=f"This server serves version {loaded.identity.version!r}.",
                )
