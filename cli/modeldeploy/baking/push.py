"""Bakes an image: reads the base, adds the package's layer, pushes what the target lacks; for `commands/bake.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldeploy.baking.credentials import credentials_of
from modeldeploy.baking.image import Base, Blob, bake, check_platform, choose, index_of, layers_of, read_document
from modeldeploy.baking.layer import Layer, layer_of
from modeldeploy.baking.reference import Image
from modeldeploy.baking.referrers import attach
from modeldeploy.baking.registry import Content, Repository
from modeldeploy.bom.attached import read_bom
from modeldeploy.bom.document import MEDIA_TYPE
from modeldeploy.package.digest import tree_digest
from modeldeploy.requests import Refused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to bake.

    Attributes:
        folder, files: the package, with the paths of its files in the order of their bytes.
        platforms: as `linux/amd64`; the image of several is an index.
        sign: a private key (PEM) that signs the image.
        verify_base: a public key (PEM) that has to have signed the base.
        bom: a bill of materials (CycloneDX, JSON) that is attached to the image.
        plain_http: whether registries are spoken to without TLS.
    """

    folder: Path
    files: tuple[str, ...]
    base: Image
    target: Image
    platforms: tuple[str, ...] = ("linux/amd64",)
    sign: Path | None = None
    verify_base: Path | None = None
    bom: Path | None = None
    plain_http: bool = False

    @property
    def title(self) -> str:
        """Name of the package."""
        return self.folder.resolve().name


@dataclass(frozen=True, slots=True)
class Baked:
    """An image that was pushed, by its digest, and the digest of its package."""

    reference: str
    sha256: str


def push(recipe: Recipe, environ: Mapping[str, str], report: Report) -> Baked:
    """Bake and push an image, or an index of those of several platforms.

    Raises:
        Refused: base, package, key or registry do not allow it; the message says which, and what to do.
    """
    # Before anything is sent.
    private, public = _keys(recipe, environ)
    with _opened(recipe.base, recipe, environ) as source, _opened(recipe.target, recipe, environ) as target:
        bases = _read_bases(source, recipe, public)
        sha256 = tree_digest(recipe.folder, recipe.files)
        bom = read_bom(recipe.bom, sha256) if recipe.bom else b""
        layer = layer_of(recipe.folder, recipe.files)
        images = {platform: bake(base, layer, sha256, recipe.title) for platform, base in bases.items()}
        for platform, base in bases.items():
            _copy_layers(source, target, base, platform, report)
        _put_layer(target, layer, report)
        for manifest, config in images.values():
            target.put_document(config)
            target.put_manifest(manifest.digest, manifest)
        manifests = {platform: manifest for platform, (manifest, _) in images.items()}
        whole = index_of(manifests) if len(manifests) > 1 else next(iter(manifests.values()))
        target.put_manifest(recipe.target.reference, whole)
        if bom:
            attached = attach(target, whole, Blob(media_type=MEDIA_TYPE, content=bom), "bom.cdx.json")
            report(f"attached {attached}, the bill of materials")
        if private is not None:
            from modeldeploy.baking.cosign import sign

            sign(target, whole.digest, private)
            report(f"signed {whole.digest}")
    return Baked(f"{recipe.target.name}@{whole.digest}", sha256)


def _keys(
    recipe: Recipe, environ: Mapping[str, str]
) -> tuple[ec.EllipticCurvePrivateKey | None, ec.EllipticCurvePublicKey | None]:
    if recipe.sign is None and recipe.verify_base is None:
        return None, None
    if find_spec("cryptography") is None:
        raise Refused("signatures need cryptography, which is not installed: pip install 'modeldeploy[signing]'")
    from modeldeploy.baking.cosign import private_key, public_key

    private = private_key(recipe.sign, environ) if recipe.sign else None
    return private, public_key(recipe.verify_base) if recipe.verify_base else None


def _opened(image: Image, recipe: Recipe, environ: Mapping[str, str]) -> Repository:
    return Repository(image, credentials_of(image.host, environ), plain_http=recipe.plain_http)


def _read_bases(source: Repository, recipe: Recipe, key: ec.EllipticCurvePublicKey | None) -> dict[str, Base]:
    """The base of each platform, of what the name leads to now."""
    name = str(recipe.base)
    found = source.manifest(recipe.base.reference)
    if found is None:
        raise Refused(f"{name} does not exist: write the name and tag of the model server's image")
    return {platform: _read_base(source, recipe, found, platform, key) for platform in recipe.platforms}


def _read_base(
    source: Repository, recipe: Recipe, found: Blob, platform: str, key: ec.EllipticCurvePublicKey | None
) -> Base:
    name = str(recipe.base)
    chosen = choose(read_document(found.content, name), platform, name)
    own = source.manifest(chosen) if chosen else found
    if own is None:
        raise Refused(f"{name} is an index whose image for {platform} does not exist")
    if key is not None:
        from modeldeploy.baking.cosign import check_signed

        check_signed(source, (found.digest, own.digest), key, f"{recipe.verify_base}")
    manifest: dict[str, Any] = read_document(own.content, name)
    layers_of(manifest, name)
    config = read_document(source.document(str(manifest["config"]["digest"])), name)
    check_platform(config, platform, name)
    return Base(name=name, manifest=own, config=config)


def _copy_layers(source: Repository, target: Repository, base: Base, platform: str, report: Report) -> None:
    """Mount the base's layers where the registry is the same one, and copy them otherwise."""
    is_one_registry = source.image.host == target.image.host
    mount_from = source.image.repository if is_one_registry and source.image.name != target.image.name else ""
    for number, layer in enumerate(base.layers, 1):
        digest, size = str(layer["digest"]), int(layer["size"])
        report(f"layer {number} of {len(base.layers)} of the base for {platform}, {_megabytes(size)}")
        target.put_blob(digest, size, _reader(source, digest, size), mount_from=mount_from)


def _reader(source: Repository, digest: str, size: int) -> Content:
    return lambda: source.blob(digest, size)


def _put_layer(target: Repository, layer: Layer, report: Report) -> None:
    report(f"the package, {_megabytes(layer.size)}")
    target.put_blob(layer.digest, layer.size, layer.content)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
