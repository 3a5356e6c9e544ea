"""The sandbox's API server answers as a real one did when it was recorded."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

from model_sandbox.apiserver.auth import User
from model_sandbox.testing import sandbox

HERE = Path(__file__).parent
RECORDINGS = sorted((HERE / "recordings").glob("*/*.yaml"))
LIMITED = {"limitedtoken": User("limited", ("devs", "system:authenticated"))}


def _replayer() -> Any:
    spec = importlib.util.spec_from_file_location("kubernetes_wire_replay", HERE / "replay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Replayer


def read(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def test_all_areas_are_recorded() -> None:
    areas = {path.parent.name for path in RECORDINGS}
    assert areas == {
        "controllers", "crds", "deletion", "discovery", "lists", "objects", "patches", "protobuf", "subresources",
    }  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replayer() -> AsyncIterator[Any]:
    """One server for all recordings, as the real one that was recorded was."""
    timeout = aiohttp.ClientTimeout(total=60)
    async with (
        sandbox(controllers=True, users=LIMITED) as server,
        aiohttp.ClientSession(timeout=timeout) as session,
    ):
        yield _replayer()(session, server.url, server.token)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.name}: {path.stem}")
async def test_answers_as_recorded(replayer: Any, path: Path) -> None:
    assert await replayer.play(read(path)) == []
