"""The libraries that a requirements.txt names, with versions and hashes where it pins them. Pure.

https://pip.pypa.io/en/stable/reference/requirements-file-format/
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from modeldeploy.requests import Refused

_HASH = re.compile(r"--hash[= ]sha256:([0-9a-fA-F]{64})(?=\s|$)")
_COMMENT = re.compile(r"(^|\s)#.*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A library of Python.

    Attributes:
        name: in its canonical spelling.
        version: empty unless exactly one version fits.
        specifier: what was written, as `>=1.4,<2`.
        marker: where it is needed; empty for everywhere.
        url: where it comes from instead of an index, without credentials.
        sha256: digests that its distribution may have.
    """

    name: str
    version: str = ""
    specifier: str = ""
    marker: str = ""
    url: str = ""
    sha256: tuple[str, ...] = ()

    @property
    def purl(self) -> str:
        """The package URL. https://github.com/package-url/purl-spec"""
        return f"pkg:pypi/{self.name}" + (f"@{self.version}" if self.version else "")


def parse_requirements(text: str) -> list[Library]:
    """The libraries by name; options are passed over. Raises Refused that names the line."""
    found: dict[str, Library] = {}
    for number, line in _logical_lines(text):
        entry = re.split(r"\s--?[a-z]", line)[0].strip()
        if not entry or entry.startswith("-"):
            continue
        try:
            requirement = Requirement(entry)
        except InvalidRequirement as error:
            why = str(error).splitlines()[0]
            raise Refused(f"requirements.txt line {number}: {entry!r} is not a requirement ({why})") from None
        library = _library(requirement, tuple(sorted(one.lower() for one in _HASH.findall(line))))
        found[f"{library.name} {library.marker}"] = library
    return [found[key] for key in sorted(found)]


def _library(requirement: Requirement, sha256: tuple[str, ...]) -> Library:
    clauses = list(requirement.specifier)
    is_pinned = len(clauses) == 1 and clauses[0].operator in ("==", "===") and not clauses[0].version.endswith("*")
    return Library(
        name=canonicalize_name(requirement.name),
        version=clauses[0].version if is_pinned else "",
        specifier=",".join(sorted(str(clause) for clause in clauses)),
        marker=str(requirement.marker or ""),
        url=_without_credentials(requirement.url or ""),
        sha256=sha256,
    )


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines with the number of their first one; a backslash goes on in the next."""
    first, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        first = first or number
        parts.append(_COMMENT.sub("", line).rstrip("\\").strip())
        if not line.rstrip().endswith("\\"):
            yield first, " ".join(parts)
            first, parts = 0, []
    if parts:
        yield first, " ".join(parts)
