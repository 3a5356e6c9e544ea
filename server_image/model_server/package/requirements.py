"""Compares a package's requirements.txt with what is installed, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion

from model_server.errors import DependencyMismatch, MetadataInvalid


def installed_version(name: str) -> str | None:
    """The version of an installed distribution, None when it is absent."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def parse_requirements(text: str) -> list[Requirement]:
    """The requirements of a requirements.txt; options (`-i ...`), URLs and comments are passed over.

    Raises MetadataInvalid that names the line.
    """
    parsed = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.split(" #")[0].split(" --hash")[0].strip().rstrip("\\").strip()
        if not entry or entry.startswith(("#", "-")):
            continue
        try:
            parsed.append(Requirement(entry))
        except InvalidRequirement as error:
            why = str(error).splitlines()[0]
            raise MetadataInvalid(
                f"requirements.txt line {number}: {entry!r} is not a requirement ({why})",
                hint="Write one requirement a line: scikit-learn==1.7.2",
            ) from None
    return parsed


def check_requirements(
    requirements: Sequence[Requirement], installed: Callable[[str], str | None] = installed_version
) -> None:
    """Raise DependencyMismatch that lists what is needed and what is installed."""
    faults = []
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        version = installed(requirement.name)
        try:
            fits = version is not None and requirement.specifier.contains(version, prereleases=True)
        except InvalidVersion:
            fits = False
        if not fits:
            faults.append(f"{requirement.name}{_needed(requirement)} needed, {version or 'none'} installed")
    if faults:
        raise DependencyMismatch(
            "; ".join(faults),
            hint="Use an image with these versions, retrain with the installed ones, or set installRequirements: true.",
        )


def _needed(requirement: Requirement) -> str:
    exact = [clause.version for clause in requirement.specifier if clause.operator == "=="]
    return f" {exact[0]}" if exact else f" {requirement.specifier}".rstrip()
