"""Installs a package's requirements on request, into a folder that shadows the image's libraries.

A process that has imported NumPy cannot change its version, so the server starts itself again with the
folder in front of its path. pip's own settings (`PIP_INDEX_URL`, `PIP_NO_INDEX`, `PIP_FIND_LINKS`, ...) hold.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from model_server.errors import DependencyMismatch, RestartNeeded

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 900
# Names the folder that a restarted process has in front of its path.
INSTALLED = "MODEL_SERVER_INSTALLED"


def install(requirements: Sequence[Requirement], into: Path, environ: Mapping[str, str]) -> None:
    """Install and raise RestartNeeded; raise DependencyMismatch when pip fails or it did not help before."""
    wanted = sorted(str(one) for one in requirements)
    key = hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()[:16]
    folder = into / f"requirements-{key}"
    if environ.get(INSTALLED) == str(folder):
        raise DependencyMismatch(
            "the installed requirements do not satisfy requirements.txt", hint="Look at pip's log above."
        )
    if not folder.exists():
        _pip(wanted, folder)
    restarted = dict(environ) | {INSTALLED: str(folder)}
    restarted["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [environ.get("PYTHONPATH")])])
    raise RestartNeeded("the requirements are installed", environ=restarted)


def _pip(wanted: Sequence[str], folder: Path) -> None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--target",
        str(partial),
    ]
    try:
        done = subprocess.run([*command, *wanted], capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise DependencyMismatch(
            f"installing took more than {TIMEOUT_SECONDS} s", hint="Build an image with them."
        ) from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()[
            -1:
        ]
        raise DependencyMismatch(
            f"the requirements cannot be installed: {' '.join(errors)[:600]}",
            hint="Correct requirements.txt, or point pip to an index that has them: PIP_INDEX_URL.",
        )
    partial.rename(folder)
    log.info("requirements installed", extra={"folder": str(folder), "requirements": list(wanted)})
