"""Places for open pages: each has a stream, which holds a connection and gets every change."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Reader(NamedTuple):
    """Who reads: the address of the connection, and the user's token where a proxy in between signs users in.

    Nobody has verified the token. To invent tokens gains nothing: they share the places of their address.
    """

    address: str
    token: str


class Places:
    """So many streams for all. Nobody has more of them than are left for the others."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = Counter[Reader]()

    @contextmanager
    def taken(self, reader: Reader) -> Iterator[int]:
        """Take a place, and give it back at the end. Yields 0, or the HTTP status by which the reader is refused."""
        status = self._refusal(reader)
        if status:
            yield status
            return
        self._open[reader] += 1
        try:
            yield 0
        finally:
            self._open[reader] -= 1
            if not self._open[reader]:
                del self._open[reader]

    def _refusal(self, reader: Reader) -> int:
        free = self._most - self._open.total()
        if not free:
            return 503
        of_address = sum(count for one, count in self._open.items() if one.address == reader.address)
        # Half of what other addresses leave, of which a user has half again.
        left = (free + of_address + 1) // 2 - of_address
        return 0 if self._open[reader] < left else 429
