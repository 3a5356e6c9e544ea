"""`modeldeploy lint`: what the API server would refuse, without one, with the line in the file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from modeldeploy.lint import (
    Definition,
    Document,
    ManifestError,
    check_object,
    read_definition,
    read_documents,
)


def lint(
    files: Annotated[
        list[Path],
        typer.Option("--filename", "-f", help="Manifest to check; - reads standard input. May be repeated."),
    ],
) -> None:
    """Check manifests offline: exit status 0 when nothing is wrong, 1 otherwise."""
    definition = read_definition()
    checked, wrong = 0, 0
    for file in files:
        for line in _check_file(file, definition):
            if line is None:
                checked += 1
            else:
                wrong += 1
                print(line)
    summary = f"{checked} {definition.kind}{'' if checked == 1 else 's'} checked, {wrong or 'nothing'} wrong"
    print(summary, file=sys.stderr)
    raise typer.Exit(1 if wrong or not checked else 0)


def _check_file(file: Path, definition: Definition) -> list[str | None]:
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
