"""The documents of an image: which one of an index is meant, and what a further layer makes of manifest and config.

Pure. Documents of Docker's types are read too and written as OCI's, which hold the same.
https://github.com/opencontainers/image-spec
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modeldeploy.baking.layer import FOLDER, Layer
from modeldeploy.requests import Refused

OCI = "application/vnd.oci.image"
MANIFEST, INDEX, CONFIG = f"{OCI}.manifest.v1+json", f"{OCI}.index.v1+json", f"{OCI}.config.v1+json"
_LAYER = f"{OCI}.layer.v1.tar"
_DOCKER = "application/vnd.docker"
_DOCKER_MANIFEST = f"{_DOCKER}.distribution.manifest.v2+json"
_DOCKER_INDEX = f"{_DOCKER}.distribution.manifest.list.v2+json"
#: What is asked for by tag.
ACCEPTED = ", ".join((MANIFEST, INDEX, _DOCKER_MANIFEST, _DOCKER_INDEX))
#: OCI's type of each layer that can be carried over.
_LAYERS: Mapping[str, str] = {
    **{f"{_LAYER}{kind}": f"{_LAYER}{kind}" for kind in ("", "+gzip", "+zstd")},
    f"{_DOCKER}.image.rootfs.diff.tar": _LAYER,
    f"{_DOCKER}.image.rootfs.diff.tar.gzip": f"{_LAYER}+gzip",
    f"{_DOCKER}.image.rootfs.diff.tar.zstd": f"{_LAYER}+zstd",
}
#: As many layers as the overlay file system of Linux takes, less the container's own.
MOST_LAYERS = 127
#: The model server's setting, so that `docker run` of the image serves the package.
_SETTING = "MODEL_SERVER_STORAGE_URI"
STORAGE_URI = f"file:///{FOLDER}"
PACKAGE_DIGEST = "dev.modeldeploy.package.sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A document as a registry stores it; `digest` begins with `sha256:`."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        """The digest of the content."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    @property
    def descriptor(self) -> dict[str, Any]:
        """What names it in another document."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


def blob_of(media_type: str, document: Mapping[str, Any]) -> Blob:
    """A document, with its fields in alphabetical order: the same fields are the same bytes."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Blob(media_type=media_type, content=text.encode())


def read_document(content: bytes, what: str) -> dict[str, Any]:
    """A JSON object. Raises Refused."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refused(f"{what} is no JSON object: this is no image")
    return found


def choose(index: Mapping[str, Any], platform: str, what: str) -> str:
    """The digest of an index's image for a platform, as `linux/arm64`; "" if the document is an image's own manifest.

    Raises:
        Refused: the index has none for it; the message lists those it has.
    """
    entries = index.get("manifests")
    if entries is None:
        return ""
    try:
        named = [(_platform(entry["platform"]), str(entry["digest"])) for entry in entries if entry.get("platform")]
    except (AttributeError, KeyError, TypeError):
        raise Refused(f"{what} is an index without digests and platforms") from None
    # Attestations are entries too, of the platform unknown/unknown.
    known = {name: digest for name, digest in reversed(named) if not name.startswith("unknown/")}
    if platform not in known:
        raise Refused(
            f"{what} has no image for {platform}; it has: {', '.join(sorted(known)) or 'none'}. Choose with --platform"
        )
    return known[platform]


def _platform(found: Mapping[str, Any]) -> str:
    variant = found.get("variant")
    name = f"{found.get('os', 'linux')}/{found.get('architecture', 'any')}"
    # Every arm64 image is of variant v8, and few say so.
    return f"{name}/{variant}" if variant and (name, variant) != ("linux/arm64", "v8") else name


def layers_of(manifest: Mapping[str, Any], what: str) -> list[dict[str, Any]]:
    """The layers of a manifest, as OCI names them. Raises Refused for those that cannot be carried over."""
    try:
        types = [str(layer["mediaType"]) for layer in manifest["layers"]]
        if unknown := [one for one in types if one not in _LAYERS]:
            raise Refused(f"{what} has a layer of the type {unknown[0]}; known are {', '.join(_LAYERS)}")
        layers = [
            {
                "mediaType": _LAYERS[str(layer["mediaType"])],
                "digest": _checked_digest(layer["digest"]),
                "size": int(layer["size"]),
            }
            for layer in manifest["layers"]
        ]
        _checked_digest(manifest["config"]["digest"])
    except KeyError as error:
        raise Refused(f"{what} cannot be a base: its manifest has no {error}, as an image's has") from None
    except (TypeError, ValueError):
        raise Refused(f"{what} is no manifest of an image") from None
    if not layers:
        raise Refused(f"{what} has no layers: this is no image")
    if len(layers) >= MOST_LAYERS:
        raise Refused(f"{what} has {len(layers)} layers, and an image may have {MOST_LAYERS}")
    return layers


def _checked_digest(text: Any) -> str:
    name, _, digits = str(text).partition(":")
    if name != "sha256" or len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise ValueError(text)
    return str(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A base image of one platform.

    Attributes:
        name: as it was written, for messages.
        manifest: the image's own manifest, as the registry has it.
        config: its config.
    """

    name: str
    manifest: Blob
    config: Mapping[str, Any]

    @property
    def layers(self) -> list[dict[str, Any]]:
        """The layers, as OCI names them. Raises Refused."""
        return layers_of(read_document(self.manifest.content, self.name), self.name)


def check_platform(config: Mapping[str, Any], platform: str, what: str) -> None:
    """Raise Refused for a config of another platform: the image would not start there."""
    found = _platform(config)
    if found != platform:
        raise Refused(
            f"{what} is an image for {found}, and {platform} is wanted: name a base of that platform, or write"
            f" --platform {found}"
        )


def bake(base: Base, layer: Layer, package_sha256: str, title: str) -> tuple[Blob, Blob]:
    """The manifest and the config of the base with one more layer.

    Args:
        package_sha256: digest of the package, as `spec.model.sha256` has it.
        title: name of the package.

    Raises:
        Refused: the documents of the base do not fit each other.
    """
    config = dict(base.config)
    rootfs = config.get("rootfs") if isinstance(config.get("rootfs"), dict) else {}
    below = rootfs.get("diff_ids") if rootfs else None
    if not isinstance(below, list) or len(below) != len(base.layers):
        raise Refused(f"{base.name} has another number of layers in its config than in its manifest")
    inner = config.get("config") if isinstance(config.get("config"), dict) else {}
    config["rootfs"] = {"type": "layers", "diff_ids": [*below, layer.digest]}
    config["config"] = {
        **(inner or {}),
        "Env": _with(list((inner or {}).get("Env") or ()), _SETTING, STORAGE_URI),
        "Labels": {**((inner or {}).get("Labels") or {}), PACKAGE_DIGEST: package_sha256},
    }
    entry = {"created_by": f"modeldeploy bake {title}", "comment": f"package sha256:{package_sha256}"}
    # The time of the base, if it has one: that of baking would make another image of the same package.
    dated = {"created": config["created"]} if config.get("created") else {}
    config["history"] = [*(config.get("history") or ()), {**entry, **dated}]
    stored = blob_of(CONFIG, config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": stored.descriptor,
        "layers": [*base.layers, {"mediaType": _LAYER, "digest": layer.digest, "size": layer.size}],
        "annotations": {
            "org.opencontainers.image.title": title,
            # Not its name: the same base from a mirror makes the same image.
            "org.opencontainers.image.base.digest": base.manifest.digest,
            PACKAGE_DIGEST: package_sha256,
        },
    }
    return blob_of(MANIFEST, manifest), stored


def index_of(images: Mapping[str, Blob]) -> Blob:
    """An index of the manifests of images, by their platforms as `linux/arm64`."""
    entries = []
    for platform, manifest in images.items():
        named = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
        entries.append({**manifest.descriptor, "platform": named})
    annotations = read_document(next(iter(images.values())).content, "the image")["annotations"]
    return blob_of(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries, "annotations": annotations})


def _with(environment: Sequence[str], name: str, value: str) -> list[str]:
    return [*(entry for entry in environment if not entry.startswith(f"{name}=")), f"{name}={value}"]
