"""The id of a request, which its answer, its log lines and its feedback carry."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Mapping

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class RequestIds:
    """The client's `x-request-id` when it is short and printable, else a new one: a random prefix and a count."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6).encode()
        self._count = itertools.count(1)

    def of(self, headers: Mapping[bytes, bytes]) -> bytes:
        """The id of a request."""
        given = headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return b"%s-%x" % (self._prefix, next(self._count))
