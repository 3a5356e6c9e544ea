"""Retries of a command that waits: an API server that is unavailable for a moment does not end the wait.

Used by `watch` and by `status --wait`.
"""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from modeldeploy.kube import KubeError, KubeUnreachable

Seen = TypeVar("Seen")

#: HTTP status of "too many requests", which an API server says when it has too much to do.
_BUSY = 429


def look_again(look: Callable[[], Seen], *, pause: float, longest: float) -> Seen:
    """What `look` sees; when the API server does not answer it is asked again, for `longest` seconds."""
    deadline, is_told = time.monotonic() + longest, False
    while True:
        try:
            return look()
        except (KubeUnreachable, KubeError) as error:
            if not _is_passing(error) or time.monotonic() > deadline:
                raise
            if not is_told:
                print(f"{error}; trying again", file=sys.stderr)
            is_told = True
            time.sleep(pause)


def _is_passing(error: KubeUnreachable | KubeError) -> bool:
    return isinstance(error, KubeUnreachable) or error.code >= 500 or error.code == _BUSY
