"""Checks whole files of manifests, one line for each problem. Used by the command."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from modeldeploy.lint.check import Definition, check_object
from modeldeploy.lint.manifest import Document, ManifestError, read_documents


@dataclass(frozen=True, slots=True)
class Checked:
    """What one file had: `count` objects that were looked at, and a line for each problem."""

    count: int
    problems: list[str]


def check_file(file: Path, definition: Definition) -> Checked:
    """Check the ModelDeployments of a file, of which there has to be one; other kinds may stand beside them."""
    shown = "standard input" if str(file) == "-" else str(file)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        return _check(text, shown, definition)
    except OSError as error:
        raise typer.BadParameter(f"{shown}: {error.strerror}") from error
    except (ManifestError, UnicodeDecodeError) as error:
        return Checked(0, [f"{shown}: is no YAML: {error}"])
    except RecursionError:
        return Checked(0, [f"{shown}: is nested too deep to be a manifest"])


def _check(text: str, shown: str, definition: Definition) -> Checked:
    documents = [item for document in read_documents(text) for item in document.items()]
    ours = [one for one in documents if _kind(one) == definition.kind]
    if not ours:
        kinds = ", ".join(sorted({str(_kind(one)) for one in documents if _kind(one)}))
        found = f"; there are: {kinds}" if kinds else ""
        return Checked(0, [f"{shown}: has no {definition.kind}: nothing was checked{found}"])
    return Checked(len(ours), [line for one in ours for line in _problems_of(one, shown, definition)])


def _kind(document: Document) -> Any:
    return document.body.get("kind") if isinstance(document.body, dict) else None


def _problems_of(document: Document, shown: str, definition: Definition) -> list[str]:
    written = document.body.get("apiVersion")
    if written != definition.api_version:
        line = document.line_of(("apiVersion",))
        return [f"{shown}:{line}: apiVersion: {written!r} is unknown; known is {definition.api_version}"]
    problems = [*document.repeated(), *check_object(document.body, definition)]
    found = sorted(((document.line_of(one.path), one) for one in problems), key=lambda pair: pair[0])
    return [f"{shown}:{line}: {one.field or 'object'}: {one.message}" for line, one in found]
