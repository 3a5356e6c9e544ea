"""Checks whole files of manifests, one line for each problem. Used by the command."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from modeldeploy.lint.check import Definition, check_object
from modeldeploy.lint.manifest import Document, ManifestError, Problem, read_documents
from modeldeploy.lint.names import known_formats, known_schemes, unknown_names
from modeldeploy.requests import Refused

#: Which files of a folder are manifests, as for kubectl.
_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Checked:
    """What a file or folder had: the kind of each object that was looked at, and a line for each finding."""

    checked: list[str]
    problems: list[str]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class _Seen(Checked):
    """The same of one file, with the kinds that it has besides."""

    kinds: frozenset[str] = frozenset()


def check_file(path: Path, definitions: Mapping[str, Definition]) -> Checked:
    """Check the objects of the defined kinds in a file, or in the files of a folder; there has to be one.

    Raises:
        typer.BadParameter: it cannot be read.
    """
    shown = "standard input" if str(path) == "-" else str(path)
    try:
        checked = [_check(file, definitions) for file in _files_of(path)]
    except OSError as error:
        raise typer.BadParameter(f"{shown}: {error.strerror}") from error
    ours = [kind for one in checked for kind in one.checked]
    problems = [line for one in checked for line in one.problems]
    warnings = [line for one in checked for line in one.warnings]
    if not ours and not problems:
        kinds = ", ".join(sorted({kind for one in checked for kind in one.kinds}))
        found = f"; there are: {kinds}" if kinds else ""
        if not checked and path.is_dir():
            found = " (of a folder its own .yaml, .yml and .json files are read, and none of the folders below)"
        problems = [f"{shown}: has no {' and no '.join(definitions)}: nothing was checked{found}"]
    return Checked(ours, problems, warnings)


def read_objects(path: Path) -> list[Any]:
    """Return the objects of a file, of the files in a folder, or of standard input (`-`).

    Raises:
        Refused: it is no YAML.
        OSError: it cannot be read.
    """
    found = []
    for file in _files_of(path):
        try:
            text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
            found += [item.body for document in read_documents(text) for item in document.items()]
        except (ManifestError, UnicodeDecodeError) as error:
            raise Refused(f"{file}: is no YAML: {error}") from None
        except RecursionError:
            raise Refused(f"{file}: is nested too deep to be a manifest") from None
    return found


def _files_of(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if one.suffix in _SUFFIXES) if path.is_dir() else [path]


def _check(file: Path, definitions: Mapping[str, Definition]) -> _Seen:
    shown = "standard input" if str(file) == "-" else str(file)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        documents = [item for document in read_documents(text) for item in document.items()]
        ours = [one for one in documents if _kind(one) in definitions]
        problems, warnings = [], []
        for one in ours:
            found = _problems_of(one, shown, definitions[_kind(one)])
            problems += found
            warnings += [] if found else _warnings_of(one, shown)
    except (ManifestError, UnicodeDecodeError) as error:
        return _Seen([], [f"{shown}: is no YAML: {error}"], [])
    except RecursionError:
        return _Seen([], [f"{shown}: is nested too deep to be a manifest"], [])
    return _Seen(list(map(_kind, ours)), problems, warnings, frozenset(filter(None, map(_kind, documents))))


def _kind(document: Document) -> str:
    return str(document.body.get("kind") or "") if isinstance(document.body, dict) else ""


def _problems_of(document: Document, shown: str, definition: Definition) -> list[str]:
    written = document.body.get("apiVersion")
    if written != definition.api_version:
        line = document.line_of(("apiVersion",))
        return [f"{shown}:{line}: apiVersion: {written!r} is unknown; known is {definition.api_version}"]
    problems = [*document.repeated(), *check_object(document.body, definition)]
    return _lines(document, problems, shown)


def _warnings_of(document: Document, shown: str) -> list[str]:
    found = unknown_names(document.body, known_formats(), known_schemes())
    return _lines(document, found, shown, kind="warning: ")


def _lines(document: Document, problems: Iterable[Problem], shown: str, *, kind: str = "") -> list[str]:
    found = sorted(((document.line_of(one.path), one) for one in problems), key=lambda pair: pair[0])
    return [f"{shown}:{line}: {kind}{one.field or 'object'}: {one.message}" for line, one in found]
