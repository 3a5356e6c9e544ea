"""Every example does what its README says, on the cluster the tests run on."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import helm_commands
import pytest
from brokers import NatsServer
from shown_commands import blocks, shows

ROOT = Path(__file__).resolve().parents[2]
READMES = sorted(ROOT.glob("examples/*/README.md"))


@pytest.fixture
async def nats(space: Any, tmp_path: Path) -> AsyncIterator[str]:
    """The address of a real NATS server, where pods reach this machine."""
    if why := NatsServer.missing():
        pytest.skip(why)
    server = NatsServer(tmp_path, space.node_address())
    await server.start()
    yield server.url
    await server.close()


def with_helm(folder: Path) -> Path:
    """A folder with `helm`: the one that is installed, or its engine under that name."""
    if found := shutil.which("helm"):
        return Path(found).parent
    pytest.importorskip("helm_python", reason="neither helm nor its engine is here")
    return helm_commands.install(folder / "bin")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("readme", [pytest.param(path, id=path.parent.name) for path in READMES])
def test_the_readme_of_an_example_holds(readme: Path, space, cluster, tmp_path: Path, request) -> None:
    text = readme.read_text()
    broker = {"NATS": request.getfixturevalue("nats")} if "`NATS`" in text else {}
    helm = [str(with_helm(tmp_path))] if "helm" in text else []
    env = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), *helm, os.environ["PATH"]]),
        "KUBECONFIG": str(space.kubeconfig),
        "MODELS": f"{cluster.models_uri}/{'examples' if 'train.py' in text else 'quick'}",
        "DATA": f"{cluster.models_uri}/holdout.csv",
        "NO_PROXY": "*",
        **broker,
    }
    script = "\n".join(["set -euxo pipefail", *blocks(text, "bash")])
    done = subprocess.run(
        ["bash", "-c", script], cwd=readme.parent, env=env, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for block in blocks(text, "json"):
        assert shows(done.stdout, json.loads(block)), f"no line says {block}\n{done.stdout}"
