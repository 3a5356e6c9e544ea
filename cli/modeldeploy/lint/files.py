"""Checks whole files of manifests, one line for each problem. Used by the command."""

import sys
from pathlib import Path

import typer

from modeldeploy.lint.check import Definition, check_object
from modeldeploy.lint.manifest import Document, ManifestError, read_documents


def check_file(file: Path, definition: Definition) -> list[str | None]:
    """One line for each problem, and None for each object that was looked at."""
    shown = "standard input" if str(file) == "-" else str(file)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        documents = list(read_documents(text))
    except OSError as error:
        raise typer.BadParameter(f"{shown}: {error.strerror}") from error
    except (ManifestError, UnicodeDecodeError) as error:
        return [f"{shown}: not YAML: {error}"]
    found: list[str | None] = []
    for document in documents:
        found += _check_document(document, shown, definition)
    return found


def _check_document(document: Document, shown: str, definition: Definition) -> list[str | None]:
    body = document.body
    if not isinstance(body, dict) or body.get("kind") != definition.kind:
        return []  # other kinds may stand in the same file
    if body.get("apiVersion") != definition.api_version:
        line = document.line_of(("apiVersion",))
        written = body.get("apiVersion")
        return [
            f"{shown}:{line}: apiVersion: {written!r} is unknown; known is {definition.api_version}",
            None,
        ]
    found = [(document.line_of(one.path), one) for one in check_object(body, definition)]
    found.sort(key=lambda pair: pair[0])
    return [*(f"{shown}:{line}: {one.field or 'object'}: {one.message}" for line, one in found), None]
