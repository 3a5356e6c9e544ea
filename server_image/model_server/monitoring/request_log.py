"""The most recent requests, for the replay of a rollout: `POST /shadow/requests` reads what the monitor keeps.

Nothing is kept until the operator asks, and nothing again when it has not asked for a while. Kept are decoded inputs
without answers: the model answers them anew when they are read, while no other request waits. Features that the input
log redacts are replaced before a request is kept, by a value that the model can take and no client has sent.

Each worker has a ring of its own, limited in requests and bytes; that they keep at all is told in the values that all
workers share.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from model_server.domain.model import LoadedModel
from model_server.domain.tensors import Inputs
from model_server.errors import OperationNotSupported
from model_server.monitoring.window import bytes_of_all
from model_server.shared_values import SharedValues, Slice

#: Requests that one worker keeps at most.
MOST_REQUESTS = 2_000
MOST_BYTES = 16 * 2**20
#: A larger request is not kept: it would push out hundreds of others.
LARGEST_BYTES = 256 * 2**10
_UNTIL, _WANTED, _SIZE = 0, 1, 2


class RequestLog:
    """The ring of one worker."""

    def __init__(self, loaded: LoadedModel, redacted: Sequence[str], values: SharedValues) -> None:
        self._loaded = loaded
        self._redacted = tuple(redacted)
        self._values = values
        self._part = part = values.declare(_SIZE)
        self._own = values.own[part.first : part.end]
        self._ring: deque[tuple[Inputs, int]] = deque()
        self._bytes = 0
        #: So many requests are kept; 0: none.
        self.wanted = 0

    def ask(self, *, requests: int, seconds: float) -> None:
        """Keep so many requests for so many seconds; other workers follow at their next `refresh`.

        Raises OperationNotSupported where a feature must not be kept and nothing is known to take its place.
        """
        self._check_redacted()
        self._own[_WANTED] = requests
        self._own[_UNTIL] = time.monotonic() + seconds
        self.wanted = requests

    def refresh(self) -> None:
        """Take over what the last asker wanted, whichever worker it met; forget everything when its time is over."""
        rows = self._values.each(Slice(self._part.first, _SIZE))
        last = max(rows, key=lambda row: row[_UNTIL])
        self.wanted = int(last[_WANTED]) if last[_UNTIL] > time.monotonic() else 0
        if not self.wanted and self._ring:
            self._ring.clear()
            self._bytes = 0

    def keep(self, inputs: Inputs) -> None:
        """Remember a request, and forget the oldest ones beyond the limits."""
        if sum(array.nbytes for array in inputs.values()) > LARGEST_BYTES:
            return
        own = self._without_redacted(inputs)
        size = bytes_of_all(own, LARGEST_BYTES)
        if size > LARGEST_BYTES:
            return
        self._ring.append((own, size))
        self._bytes += size
        while len(self._ring) > self.wanted or self._bytes > MOST_BYTES:
            self._bytes -= self._ring.popleft()[1]

    @property
    def kept(self) -> int:
        """How many requests this worker has."""
        return len(self._ring)

    def newest(self, most: int) -> Sequence[Inputs]:
        """The newest requests, newest first."""
        return [inputs for inputs, _ in reversed(self._ring)][:most]

    def _check_redacted(self) -> None:
        adapter = self._loaded.adapter
        known = {feature.name for feature in adapter.features} or {tensor.name for tensor in adapter.tensors}
        unknown = sorted(set(self._redacted) - known)
        if unknown:
            raise OperationNotSupported(
                f"the input log redacts {unknown[0]!r}, which is not an input of this model: no request is kept"
            )
        if self._redacted and self._substitute() is None:
            raise OperationNotSupported(
                f"the input log redacts {self._redacted[0]!r}, and nothing can take its place: no request is kept",
                hint="Give an example to each feature in model.yaml.",
            )

    def _substitute(self) -> Inputs | None:
        """One row of which no value is a client's."""
        adapter = self._loaded.adapter
        return adapter.example() or adapter.dummy_rows()

    def _without_redacted(self, inputs: Inputs) -> Inputs:
        """Copies of the arrays, which may be views of a request's bytes, with other values of redacted features."""
        copied = {name: array.copy() for name, array in inputs.items()}
        row = self._substitute() if self._redacted else None
        if row is None:
            return copied
        names = [feature.name for feature in self._loaded.adapter.features]
        for redacted in self._redacted:
            if redacted in copied:
                copied[redacted][...] = row[redacted][0]
            else:
                # The only array has a column for each feature.
                (name,) = copied
                copied[name][:, names.index(redacted)] = row[name][0, names.index(redacted)]
        return copied
