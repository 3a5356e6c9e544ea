"""API keys as dependencies of routes: what the document calls security schemes, and what checks them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from model_server.auth import Authenticator

_BEARER = HTTPBearer(scheme_name="bearer", description="An API key as a bearer token.", auto_error=False)
_HEADER = APIKeyHeader(name="x-api-key", scheme_name="apiKey", description="An API key.", auto_error=False)


async def _schemes(
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    key: Annotated[str | None, Security(_HEADER)],
) -> None:
    """Name both schemes: a request needs one of them."""


def documented_key(authenticator: Authenticator) -> Sequence[Any]:
    """The dependency of routes that need a key and check it themselves; none where no keys are set."""
    return [Depends(_schemes)] if authenticator.asks else []


def required_key(authenticator: Authenticator) -> Sequence[Any]:
    """The dependencies of routes that need a key; none where no keys are set."""

    async def check(request: Request) -> None:
        authenticator.check(request.scope["request_headers"])

    return [*documented_key(authenticator), Depends(check)] if authenticator.asks else []
