"""What the pods of a node have in common: how it was started, and by what it works."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from model_sandbox.controllers.base import World
from model_sandbox.node.network import LOOPBACK, Network
from model_sandbox.node.process import Reaper


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """How a node runs. `images` are commands by the names of images, `backoff` is in seconds."""

    name: str = "sandbox-0"
    state: Path
    instant: bool = False
    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    backoff: float = 10.0
    network: Network = LOOPBACK


@dataclass(frozen=True, slots=True)
class Host:
    """What a pod uses of its node. `url` is where pods reach the API server."""

    settings: NodeSettings
    world: World
    session: aiohttp.ClientSession
    reaper: Reaper | None
    url: str


def capacity() -> dict[str, str]:
    """What the machine has."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    return {"cpu": str(os.cpu_count() or 1), "memory": f"{memory}Ki", "pods": "1000"}
