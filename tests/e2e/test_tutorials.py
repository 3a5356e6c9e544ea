"""Every tutorial works: its shell blocks run one after the other, and the answers are those that it shows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from shown_commands import blocks, shows

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = [page for page in sorted((ROOT / "docs" / "tutorials").glob("*.md")) if page.stem != "index"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in TUTORIALS])
def test_a_tutorial_holds(page: Path, space, cluster, tmp_path: Path) -> None:
    if not cluster.models_uri.startswith("file://"):
        pytest.skip("tutorials write packages into a folder")
    text = page.read_text()
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(space.kubeconfig),
        "MODELS": f"{cluster.models_uri}/tutorials",
        "NO_PROXY": "*",
        "TMPDIR": str(tmp_path),
    }
    script = "\n".join(["set -euxo pipefail", *blocks(text, "bash")])
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for block in blocks(text, "json"):
        assert shows(done.stdout, json.loads(block)), f"no line says {block}\n{done.stdout}"
