"""`modeldeploy bake`: an image that has a package in it, made from the model server's image without Docker."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from modeldeploy.plain import plain
from modeldeploy.requests import Refused


def bake(
    folder: Annotated[Path, typer.Argument(metavar="PACKAGE", help="The package, as `modeldeploy package` made it.")],
    base: Annotated[
        str, typer.Option(metavar="IMAGE", help="The model server's image: registry.example.com/server:1.2.")
    ],
    push: Annotated[
        str, typer.Option(metavar="IMAGE", help="Where the new image goes: registry.example.com/models/fraud:7.")
    ],
    platform: Annotated[
        list[str] | None,
        typer.Option(help="Platform of the image; repeat it for several. The default is linux/amd64."),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Private key (PEM) that signs the image, as cosign does.", show_default=False),
    ] = None,
    verify_base: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY", help="Public key (PEM) that has to have signed the base with cosign.", show_default=False
        ),
    ] = None,
    bom: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Bill of materials to attach, of `modeldeploy bom`.", show_default=False),
    ] = None,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Speak to registries without TLS; on loopback this is the default.")
    ] = False,
) -> None:
    """Push an image with a package in /models, by the registry's API alone, and print what goes into a manifest."""
    # No other command needs these, and each of them starts first.
    import yaml

    from modeldeploy.baking.image import STORAGE_URI
    from modeldeploy.baking.push import Recipe
    from modeldeploy.baking.push import push as bring
    from modeldeploy.baking.reference import parse_image
    from modeldeploy.package.digest import files_of
    from modeldeploy.package.links import keep_inside

    if not folder.is_dir():
        raise Refused(f"{folder} is no folder: put the model's file into one, with what belongs to it")
    platforms = tuple(dict.fromkeys(platform or ["linux/amd64"]))
    for one in platforms:
        if re.fullmatch(r"[a-z0-9]+/[a-z0-9_]+(/[a-z0-9.]+)?", one) is None:
            raise typer.BadParameter(f"--platform {one!r} is none: write it as linux/amd64 or linux/arm64")
    target = parse_image(push, "--push")
    if target.digest:
        raise typer.BadParameter(f"--push {push!r} has a digest, which the image gets only now: write a tag")
    if not target.tag:
        raise typer.BadParameter(f"--push {push!r} has no tag: give every version one of its own, as in {push}:7")
    files = files_of(folder)
    if not files:
        raise Refused(f"{folder} is empty")
    keep_inside(folder, files)
    recipe = Recipe(
        folder=folder,
        files=tuple(files),
        base=parse_image(base, "--base"),
        target=target,
        platforms=platforms,
        sign=sign,
        verify_base=verify_base,
        bom=bom,
        plain_http=plain_http,
    )
    baked = bring(recipe, os.environ, lambda line: print(plain(line), file=sys.stderr))
    # What goes into a ModelDeployment, as it is.
    spec = {"model": {"storageUri": STORAGE_URI, "sha256": baked.sha256}, "server": {"image": baked.reference}}
    print(yaml.safe_dump(spec, sort_keys=False), end="")
