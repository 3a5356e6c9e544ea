"""A watch ends when it is told to, whatever happens at that moment."""

import asyncio

import pytest

from model_sandbox.apiserver.kinds import builtin_registry
from model_sandbox.apiserver.lists import Renderer, Selection
from model_sandbox.apiserver.requests import Answer, ListOptions
from model_sandbox.apiserver.store import Store
from model_sandbox.apiserver.tables import utc_now
from model_sandbox.apiserver.watch import Watcher

KIND = builtin_registry().kinds["", "v1", "configmaps"]


@pytest.mark.parametrize("turns", range(4), ids="{} turns of the loop after a change".format)
async def test_a_cancelled_watch_ends(turns: int) -> None:
    store = Store()
    watcher = Watcher(store, Selection(KIND, None, ListOptions(watch=True)), Renderer(KIND, Answer(), "", utc_now))
    sent: list[bytes] = []

    async def send(data: bytes) -> None:
        sent.append(data)

    task = asyncio.create_task(watcher.run(send))
    await asyncio.sleep(0)
    store.put(KIND.storage, ("default", "a"), {"metadata": {"name": "a", "namespace": "default"}})
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    assert task in done
    assert task.cancelled()
