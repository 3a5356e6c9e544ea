"""Whether a package may be loaded: formats that run code need somebody to vouch for the file."""

from __future__ import annotations

from model_server.errors import ArtifactNotTrusted
from model_server.package.formats import Format


def require_trust(chosen: Format, *, trusted: bool, digest: str) -> None:
    """Raise ArtifactNotTrusted unless the format is plain data, or somebody vouched by a pin or by declaring trust."""
    if not chosen.runs_code or trusted:
        return
    raise ArtifactNotTrusted(
        f"format {chosen.name} runs code when it is loaded, and this package is neither pinned nor trusted",
        hint=f"Set sha256 to {digest} if that is the package you mean, or trusted: true; "
        "skops and ONNX are formats that run no code.",
    )
