"""From a folder to a canary by way of a registry: two versions are baked, and served by their images' digests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import registries
import yaml
from typer.testing import CliRunner

from modeldeploy.app import build

pytestmark = pytest.mark.skipif(bool(registries.missing()), reason=registries.missing() or "-")


@pytest.fixture
def host(space: Any, tmp_path: Path) -> Iterator[str]:
    # Plain HTTP is for loopback alone.
    if not space.node_address().startswith("127."):
        pytest.skip("the registry is on this machine's loopback, which pods of another one do not reach")
    with registries.registry(tmp_path) as running:
        registries.push_image(f"{running}/server:1", {"etc/os-release": b"ID=none"})
        yield running


def test_a_baked_image_is_served_and_followed_by_the_next(space: Any, packages: Path, host: str) -> None:
    for version in ("1", "2"):
        words = ["--base", f"{host}/server:1", "--push", f"{host}/models/baked:{version}"]
        done = CliRunner().invoke(build(), ["bake", str(packages / "quick" / "breast-cancer" / version), *words])
        assert done.exit_code == 0, done.stderr
        printed = yaml.safe_load(done.stdout)
        uri = f"oci://{printed['server']['image']}"
        space.apply("baked", "", model={"storageUri": uri, "sha256": printed["model"]["sha256"], "trusted": False})
        status = space.wait_live("baked", version)["status"]
        assert (status["model"]["uri"], status["model"]["sha256"]) == (uri, printed["model"]["sha256"])
