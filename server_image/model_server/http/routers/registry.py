"""The route at which a registry tells that an alias has moved; `server.py` adds it where a secret for it is set."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from model_server.http.body import BodyTimeouts, RequestLimits, read_body
from model_server.registry_webhook import RegistryWebhook

log = logging.getLogger(__name__)

PATH = "/registry/webhook"
_LIMITS = RequestLimits(max_bytes=64 * 1024, timeout_seconds=5)


def create_router(webhook: RegistryWebhook, look_now: Callable[[], None]) -> APIRouter:
    """The route, which asks for a signature in place of an API key. `look_now` is called for our alias."""
    router = APIRouter(include_in_schema=False)
    timeouts = BodyTimeouts(_LIMITS.timeout_seconds)

    @router.post(PATH, name="registry_webhook", status_code=204)
    async def registry_webhook(request: Request) -> Response:
        headers = request.scope["request_headers"]
        body = await read_body(headers, request.receive, _LIMITS, timeouts, request.scope["started"])
        # Whoever else's event it is, MLflow must not send it again.
        if webhook.is_about_us(headers, body, now=time.time()):
            log.info("the registry says that the alias has moved", extra={"alias": webhook.alias})
            look_now()
        return Response(status_code=204)

    return router
