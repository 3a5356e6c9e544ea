"""Constant load on a served model, each answer compared with the model's own. Used by story and tests.

Half of the clients keep their connection, half open a new one for each request: a server or proxy
that drops either kind while it changes over is found out. The standard library's client leaves more of
the processor to what is tested than an asynchronous or a pooled one.
"""

import http.client
import itertools
import json
import select
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass(slots=True)
class Report:
    """What happened: requests by version that answered, and what went wrong, one line each."""

    answered: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """Requests in all."""
        return self.answered.total() + len(self.failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a server is asked: the body for one row, and version and prediction of an answer."""

    body: Callable[[Sequence[float]], Any]
    read: Callable[[Any], tuple[Any, Any]]


OURS = Dialect(
    body=lambda row: {"instances": [list(row)]},
    read=lambda answer: (answer["model_version"], answer["predictions"][0]),
)


class Load:
    """`clients` threads that together send `rate` requests/s to `url` between entry and exit.

    `rows` are sent one at a time; `expected` holds, by model version, the prediction for each row.
    """

    def __init__(
        self,
        url: str,
        rows: Sequence[Sequence[float]],
        expected: Mapping[str, Sequence[Any]],
        *,
        clients: int = 4,
        rate: float = 100,
        dialect: Dialect = OURS,
    ) -> None:
        self.report = Report()
        parts = urlsplit(url)
        self._host, self._path = parts.netloc, parts.path
        self._rows = rows
        self._bodies = [json.dumps(dialect.body(row)).encode() for row in rows]
        self._expected = expected
        self._read = dialect.read
        self._pause = clients / rate
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(number, clients), daemon=True) for number in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def versions(self) -> set[str]:
        """Versions that have answered so far."""
        with self._lock:
            return set(self.report.answered)

    def _send(self, number: int, clients: int) -> None:
        keeps = number % 2 == 0
        connection = http.client.HTTPConnection(self._host, timeout=10)
        for turn in itertools.count(number, clients):
            began = time.monotonic()
            self._send_one(connection, turn % len(self._rows))
            if not keeps or _was_closed(connection):
                connection.close()
            if self._over.wait(max(0.0, self._pause - (time.monotonic() - began))):
                connection.close()
                return

    def _send_one(self, connection: http.client.HTTPConnection, index: int) -> None:
        headers = {"content-type": "application/json"}
        try:
            if _was_closed(connection):
                connection.close()  # it opens a new one by itself
            connection.request("POST", self._path, self._bodies[index], headers)
            response = connection.getresponse()
            text = response.read()
            if response.status != 200:
                raise ValueError(f"{response.status} {text[:200]!r}")
            version, prediction = self._read(json.loads(text))
            version = str(version)
        except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
            connection.close()
            with self._lock:
                self.report.failed.append(f"row {index}: {type(error).__name__}: {error}")
            return
        expected = self._expected.get(version)
        with self._lock:
            self.report.answered[version] += 1
            if expected is None:
                self.report.differing.append(f"row {index}: answered by unknown version {version!r}")
            elif prediction != expected[index]:
                self.report.differing.append(
                    f"row {index}: served {prediction}, version {version} itself says {expected[index]}"
                )


def _was_closed(connection: http.client.HTTPConnection) -> bool:
    """Whether the other side closed a kept connection while it was idle, as it may."""
    return connection.sock is not None and bool(select.select([connection.sock], [], [], 0)[0])
