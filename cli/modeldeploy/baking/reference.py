"""Names of images: `registry/repository[:tag][@sha256:...]`. Pure.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
"""

import re
from dataclasses import dataclass

from modeldeploy.requests import Refused

_IMAGE = re.compile(
    r"(?P<host>[A-Za-z0-9][-.A-Za-z0-9]*(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?)"
    r"/(?P<repository>[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[-.\w]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image of a registry; `tag` and `digest` are empty where the name has none."""

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The name without tag and digest."""
        return f"{self.host}/{self.repository}"

    @property
    def reference(self) -> str:
        """What the registry is asked for: the digest, or else the tag."""
        return self.digest or self.tag or "latest"

    @property
    def is_on_loopback(self) -> bool:
        """Whether the registry is on this machine: such ones are spoken to without TLS, as Docker does."""
        return _LOOPBACK.fullmatch(self.host) is not None

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_image(text: str, option: str) -> Image:
    """Return the image of a name.

    Raises:
        Refused: it is none, or names no registry; the message names `option`.
    """
    match = _IMAGE.fullmatch(text)
    host = match["host"] if match else ""
    # What has no dot and no port is a folder of a default registry to Docker, and that default is not ours to guess.
    if match is None or not ("." in host or ":" in host or host == "localhost"):
        raise Refused(
            f"{option} {text!r} names no image of a registry: write registry.example.com/name:tag, or"
            " registry.example.com/name@sha256:..."
        )
    return Image(host=host, repository=match["repository"], tag=match["tag"] or "", digest=match["digest"] or "")
