"""Constant load on a served model, each answer compared with the model's own. Used by story and tests.

Half of the clients keep their connection, half open a new one for each request: a server or proxy
that drops either kind while it changes over is found out.
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx


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
    ) -> None:
        self.report = Report()
        self._url = url
        self._rows = rows
        self._expected = expected
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
        headers = {} if keeps else {"connection": "close"}
        with httpx.Client(timeout=10, trust_env=False, headers=headers) as http:
            for turn in itertools.count(number, clients):
                began = time.monotonic()
                self._send_one(http, turn % len(self._rows))
                if self._over.wait(max(0.0, self._pause - (time.monotonic() - began))):
                    return

    def _send_one(self, http: httpx.Client, index: int) -> None:
        body = {"instances": [list(self._rows[index])]}
        try:
            response = http.post(self._url, json=body)
            response.raise_for_status()
            answer = response.json()
            version, prediction = str(answer["model_version"]), answer["predictions"][0]
        except (httpx.HTTPError, ValueError, LookupError) as error:
            with self._lock:
                self.report.failed.append(f"row {index}: {type(error).__name__}: {error}")
            return
        known = self._expected.get(version)
        with self._lock:
            self.report.answered[version] += 1
            if known is None:
                self.report.differing.append(f"row {index}: answered by unknown version {version!r}")
            elif prediction != known[index]:
                self.report.differing.append(
                    f"row {index}: served {prediction}, version {version} itself says {known[index]}"
                )
