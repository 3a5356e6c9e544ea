"""From a verified download to a package that may be loaded; `loader.py` calls `open_package`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from model_server.domain.features import Feature, Metadata
from model_server.errors import ArtifactEmpty, MetadataInvalid
from model_server.package import formats
from model_server.package.digest import list_files
from model_server.package.formats import Format
from model_server.package.metadata import read_metadata
from model_server.package.mlflow import ML_MODEL, read_mlmodel

if TYPE_CHECKING:
    from packaging.requirements import Requirement

FIRST_BYTES = 16
DESCRIBED_IN = "model.yaml: input_features"
MODEL_DESCRIBED_IN = "model.yaml: model_features"
SIGNATURE = f"{ML_MODEL}: signature.inputs"
#: Code around the model: before it, and behind it.
PRE, POST = "pre.py", "post.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A model package on disk, understood but not loaded."""

    root: Path
    metadata: Metadata
    format: Format
    artifacts: tuple[Path, ...]
    requirements: tuple[Requirement, ...]
    # Somebody vouched for it, by a pin or by declaring trust.
    trusted: bool
    # Folders of the package from which its code imports modules.
    code: tuple[Path, ...] = ()
    # Parameters of a call that it declares, with their types.
    params: Mapping[str, str] = field(default_factory=dict)
    # What it says about the model itself: the same as `metadata`, but for the inputs behind a pre.py.
    model_metadata: Metadata = field(default_factory=Metadata)
    # Where it says what the model takes, for messages.
    described_in: str = DESCRIBED_IN
    # Those of pre.py and post.py that it has.
    steps: tuple[Path, ...] = ()


def open_package(fetched: Path, requested: str, scratch: Path, *, trusted: bool) -> Package:
    """Unpack if needed, read model.yaml and requirements.txt, choose the format. Loads nothing.

    `requested` is the format the settings ask for; `scratch` a folder for unpacked files. Raises ArtifactErrors.
    """
    root = _unpack(fetched, scratch) if fetched.is_file() and formats.is_archive(fetched.name) else fetched
    files = [root.name] if root.is_file() else list_files(root)
    is_folder = root.is_dir()
    root = root if is_folder else root.parent
    if not files or all((root / name).stat().st_size == 0 for name in files):
        raise ArtifactEmpty(f"{fetched.name} holds nothing")
    metadata = read_metadata(root / "model.yaml") if "model.yaml" in files else Metadata()
    described = (
        read_mlmodel(root / ML_MODEL) if ML_MODEL in files and requested in (formats.AUTO, formats.MLFLOW) else None
    )
    from_mlflow = described is not None and "model.yaml" not in files
    if described is not None and from_mlflow:
        metadata = described.metadata
    requirements = _read_requirements(root / "requirements.txt") if "requirements.txt" in files else []

    def first_bytes(name: str) -> bytes:
        with (root / name).open("rb") as file:
            return file.read(FIRST_BYTES)

    if described is not None:
        # MLflow lists itself, and needs not be here to serve what it packed.
        requirements = [one for one in requirements if not one.name.startswith("mlflow")]
        choice = formats.choose(files, described.format, (described.artifact,), first_bytes)
    else:
        asked = formats.named_format(requested, "the format asked for") or formats.named_format(
            metadata.format, "format in model.yaml"
        )
        choice = formats.choose(files, asked, metadata.artifacts, first_bytes)

    # Beside a lone file lies what nobody vouched for.
    steps = [name for name in (PRE, POST) if is_folder and name in files]
    model_metadata, described_in = metadata, SIGNATURE if from_mlflow else DESCRIBED_IN
    if PRE in steps:
        signature = described.metadata.input_features if described else ()
        model_metadata = _behind_pre(metadata, metadata.model_features or signature)
        described_in = MODEL_DESCRIBED_IN if metadata.model_features else SIGNATURE
        # MLflow's signature is about the model: what a pre.py takes is in model.yaml or in pre.py itself.
        metadata = replace(metadata, input_features=()) if from_mlflow else metadata
    elif metadata.model_features:
        raise MetadataInvalid(
            "model.yaml: model_features is what pre.py gives the model, and the package has no pre.py",
            hint="Write what the model takes as input_features.",
        )

    return Package(
        root=root,
        metadata=metadata,
        format=choice.format,
        artifacts=tuple(root / name for name in choice.artifacts),
        requirements=tuple(requirements),
        trusted=trusted,
        params=described.params if described else {},
        code=(*(root / name for name in described.code), root) if described and is_folder else (root,) * is_folder,
        model_metadata=model_metadata,
        described_in=described_in,
        steps=tuple(root / name for name in steps),
    )


def _behind_pre(metadata: Metadata, features: tuple[Feature, ...]) -> Metadata:
    """What is known of a model behind a pre.py: the profile is that of what goes into the first step."""
    return replace(metadata, input_features=features, reference_profile={}, reference_correlation=None)


def _unpack(archive: Path, scratch: Path) -> Path:
    # Imported only here: most packages are folders.
    from model_server.package.archives import ArchiveLimits, unpack

    return unpack(archive, scratch / "unpacked", ArchiveLimits())


def _read_requirements(path: Path) -> list[Requirement]:
    # Imported only here: most packages have none, and what reads them is not small.
    from model_server.package.requirements import parse_requirements

    return parse_requirements(path.read_text(encoding="utf-8"))
