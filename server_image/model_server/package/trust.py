"""Whether a package may be loaded: formats that run code need somebody to vouch for the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model_server.errors import ArtifactNotTrusted
from model_server.package.formats import Format
from model_server.package.pickle_scan import dangerous_calls


def require_trust(
    chosen: Format, *, trusted: bool, digest: str, artifacts: Sequence[Path] = (), steps: Sequence[Path] = ()
) -> None:
    """Raise ArtifactNotTrusted unless the package is plain data, or somebody vouched by a pin or by declaring trust.

    `steps` are code of the package beside a model of any format. The refusal names what the artifacts would call that
    no model needs.
    """
    if trusted or not (chosen.runs_code or steps):
        return
    if not chosen.runs_code:
        named = " and ".join(path.name for path in steps)
        raise ArtifactNotTrusted(
            f"the package has code in {named}, and is neither pinned nor trusted",
            hint=f"Set sha256 to {digest} if that is the package you mean, or trusted: true; without {named} format "
            f"{chosen.name} runs no code.",
        )
    calls = dangerous_calls(artifacts)
    if calls:
        raise ArtifactNotTrusted(
            f"format {chosen.name} runs code when it is loaded, and this package would call {', '.join(calls)}",
            hint="Find out who made this file before anything loads it; no model needs these calls.",
        )
    raise ArtifactNotTrusted(
        f"format {chosen.name} runs code when it is loaded, and this package is neither pinned nor trusted",
        hint=f"Set sha256 to {digest} if that is the package you mean, or trusted: true; "
        "skops and ONNX are formats that run no code.",
    )
