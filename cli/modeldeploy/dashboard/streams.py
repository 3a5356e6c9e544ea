"""What changes, sent to open pages as server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from modeldeploy.dashboard.pages import notices_part, row_part, totals_part
from modeldeploy.dashboard.store import Key, Store, Subscription
from modeldeploy.dashboard.view.rows import Totals

#: Seconds between two updates of a model's page: what changes meanwhile is sent at once.
_PAUSE = 0.05
#: Rows of one message, and of a second: more of them make a browser stutter.
_ROWS, _ROWS_A_SECOND = 20, 1000
#: Seconds between two messages of rows, however few they have.
_LEAST_PAUSE = 0.01
#: Seconds after which a stream says that it is there, and a page is computed anew: times left run out.
_BEAT = 10.0

Parts = Callable[[], Awaitable[dict[str, str] | None]]


async def list_stream(store: Store, since: str) -> AsyncGenerator[str, None]:
    """Send rows that changed after `since`, a cursor of the store, then each change.

    What changes while many rows are being sent goes first. The identifier of a message is how far a page has all rows.
    """
    with _subscribed(store) as subscription:
        keys, reached = ["/".join(key) for key in store.models], since
        # A page that was open meanwhile may show models that are gone.
        yield _message("keys", keys, reached)
        subscription.changed |= store.changed_since(since)
        subscription.add(None)
        waiting: list[Key] = []
        totals: Totals | None = None
        while not store.is_over:
            changed, noticed = subscription.take() if waiting else await _next(subscription)
            waiting = [*changed, *(key for key in waiting if key not in changed)]
            now, waiting = waiting[:_ROWS], waiting[_ROWS:]
            reached = reached if waiting else store.cursor
            if now:
                yield _message("rows", [_row(store, key) for key in now], reached)
            if totals != (counted := store.totals()):
                totals = counted
                yield _message("totals", totals_part(counted), reached)
            if noticed:
                yield _message("notices", notices_part(store.notices), reached)
            if not now and not noticed:
                yield ": still here\n\n"
            await asyncio.sleep(max(len(now) / _ROWS_A_SECOND, _LEAST_PAUSE))


def _row(store: Store, key: Key) -> dict[str, str]:
    """Return one row as the page takes it; an empty one of a model that is gone."""
    row = store.row(key)
    return {"key": "/".join(key), "sort": row.sort if row else "", "html": row_part(row) if row else ""}


async def model_stream(store: Store, key: Key, parts: Parts) -> AsyncGenerator[str, None]:
    """Send the parts of one model's page that differ from those that were sent last. `parts` computes them."""
    sent: dict[str, str] = {}
    with _subscribed(store) as subscription:
        subscription.add(None)
        while not store.is_over:
            changed, noticed = await _next(subscription)
            if noticed:
                yield _message("notices", notices_part(store.notices), store.cursor)
            if key in changed or noticed or not changed:
                now = await parts()
                if now is None:
                    yield _message("gone", "/".join(key), store.cursor)
                    return
                different = {name: html for name, html in now.items() if sent.get(name) != html}
                sent |= different
                yield _message("parts", different, store.cursor) if different else ": still here\n\n"
                await asyncio.sleep(_PAUSE)


async def _next(subscription: Subscription) -> tuple[set[Key], bool]:
    """Return what changed, or nothing after a while."""
    try:
        return await asyncio.wait_for(subscription.wait(), _BEAT)
    except TimeoutError:
        return set(), False


@contextmanager
def _subscribed(store: Store) -> Iterator[Subscription]:
    subscription = store.subscribe()
    try:
        yield subscription
    finally:
        store.unsubscribe(subscription)


def _message(event: str, data: Any, cursor: str) -> str:
    """Return one event. JSON has no line break in it, and nothing that ends an event."""
    return f"id: {cursor}\nevent: {event}\ndata: {json.dumps(data)}\n\n"
