"""Installs a package's requirements on request, into a folder that shadows the image's libraries.

A process that has imported NumPy cannot change its version, so the server starts itself again with the
folder in front of its path. pip's own settings (`PIP_INDEX_URL`, `PIP_NO_INDEX`, `PIP_FIND_LINKS`, ...) hold.

What is installed is code that the server runs. So the package has to be trusted or pinned, whatever its format; names
and versions are taken from requirements.txt, and no addresses; wheels are installed, since building one runs code of
its own; and pip does not see the server's environment, which has credentials of the storage in it.
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

from model_server.errors import ArtifactNotTrusted, DependencyMismatch, RestartNeeded
from model_server.package.child_environment import environment_of_child

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 900
# Names the folder that a restarted process has in front of its path.
INSTALLED = "MODEL_SERVER_INSTALLED"


def check_installable(requirements: Sequence[Requirement], *, trusted: bool, digest: str) -> None:
    """Raise unless somebody vouched for the package and its requirements are names with versions.

    Raises:
        ArtifactNotTrusted: the package is neither trusted nor pinned; what its requirements install would run as code.
        DependencyMismatch: a requirement is an address.
    """
    if not trusted:
        raise ArtifactNotTrusted(
            "installRequirements runs code that requirements.txt names, and this package is neither pinned nor trusted",
            hint=f"Set sha256 to {digest} if that is the package you mean, or trusted: true; an image that has the"
            " requirements needs neither.",
        )
    addresses = [f"{one.name} @ {_without_password(one.url)}" for one in requirements if one.url]
    if addresses:
        raise DependencyMismatch(
            f"requirements.txt names addresses, which are not installed from: {', '.join(addresses)}",
            hint="Write name==version, and put the wheel into an index that PIP_INDEX_URL or PIP_FIND_LINKS names.",
        )


def install(
    requirements: Sequence[Requirement], into: Path, environ: Mapping[str, str], *, allow_source_builds: bool = False
) -> None:
    """Install and raise RestartNeeded; raise DependencyMismatch when pip fails or it did not help before."""
    specifiers = sorted(str(one) for one in requirements)
    key = hashlib.sha256("\n".join([sys.version, *specifiers]).encode()).hexdigest()[:16]
    folder = into / f"requirements-{key}"
    if environ.get(INSTALLED) == str(folder):
        raise DependencyMismatch(
            "the installed requirements do not satisfy requirements.txt", hint="Look at pip's log above."
        )
    if not folder.exists():
        _pip(specifiers, folder, environ, allow_source_builds=allow_source_builds)
    restarted = dict(environ) | {INSTALLED: str(folder)}
    restarted["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [environ.get("PYTHONPATH")])])
    raise RestartNeeded("the requirements are installed", environ=restarted)


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if "@" in rest.partition("/")[0] else url


def _pip(specifiers: Sequence[str], folder: Path, environ: Mapping[str, str], *, allow_source_builds: bool) -> None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [
        *(sys.executable, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *([] if allow_source_builds else ["--only-binary", ":all:"]),
        *("--target", str(partial), "--"),
    ]
    try:
        done = subprocess.run(
            [*command, *specifiers],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            # Its own settings, proxies and certificates.
            env=environment_of_child(environ, prefix="PIP_"),
        )
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
            hint="Correct requirements.txt, or point pip to an index that has wheels of them: PIP_INDEX_URL."
            " MODEL_SERVER_ALLOW_SOURCE_BUILDS builds what has no wheel.",
        )
    partial.rename(folder)
    log.info("requirements installed", extra={"folder": str(folder), "requirements": list(specifiers)})
