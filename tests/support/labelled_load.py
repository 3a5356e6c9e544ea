"""Load with feedback: each prediction is followed by the answer that was right, on the same connection."""

import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

#: Predictions on one connection: who balances connections has to see some.
_ON_ONE = 20


class LabelledLoad:
    """`clients` threads that together ask for `rate` predictions/s between entry and exit, of rows as objects.

    What cannot be predicted or labelled is counted in `failed`: a pod that leaves takes its last connections along.
    """

    def __init__(
        self,
        url: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[float]],
        label: Callable[[Sequence[float]], Any],
        *,
        clients: int = 4,
        rate: float = 120,
        groups: Callable[[Sequence[float]], dict[str, str]] | None = None,
    ) -> None:
        self.labelled = 0
        self.failed = 0
        self._host = urlsplit(url).netloc
        self._columns, self._rows, self._label = columns, list(rows), label
        self._groups = groups
        self._pause = clients / rate
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,), daemon=True) for n in range(clients)]

    def __enter__(self) -> "LabelledLoad":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)

    def _send(self, number: int) -> None:
        rows = itertools.cycle(self._rows[number:] + self._rows[:number])
        identifiers = (f"{number}-{count}" for count in itertools.count())
        while not self._over.is_set():
            connection = http.client.HTTPConnection(self._host, timeout=10)
            try:
                for _ in range(_ON_ONE):
                    self._predict_and_tell(connection, next(rows), next(identifiers))
                    if self._over.wait(self._pause):
                        return
            except (OSError, http.client.HTTPException):
                with self._lock:
                    self.failed += 1
                time.sleep(0.05)
            finally:
                connection.close()

    def _predict_and_tell(self, connection: http.client.HTTPConnection, row: Sequence[float], identifier: str) -> None:
        instance = dict(zip(self._columns, row, strict=True))
        is_good = _post(connection, "/predict", {"instances": [instance]}, {"x-request-id": identifier})
        if is_good:
            told = {"groups": self._groups(row)} if self._groups else {}
            is_good = _post(connection, "/feedback", {"id": identifier, "label": self._label(row), **told}, {})
        with self._lock:
            self.labelled += is_good
            self.failed += not is_good


def _post(connection: http.client.HTTPConnection, path: str, body: Any, headers: dict[str, str]) -> bool:
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **headers})
    response = connection.getresponse()
    response.read()
    return response.status == 200
