"""Checks a bill of materials before it is attached to an image: it has to be one, and of this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modeldeploy.bom.fields import DIGEST
from modeldeploy.requests import Refused

_MOST_BYTES = 16 * 2**20


def read_bom(path: Path, sha256: str) -> bytes:
    """Read a document in CycloneDX's JSON.

    Args:
        sha256: digest of the package; a document of ours has to be of it.

    Raises:
        Refused: it is something else, or of another package.
    """
    if not path.is_file():
        raise Refused(f"--bom {path} is no file: write one with `modeldeploy bom PACKAGE > {path.name}`")
    if path.stat().st_size > _MOST_BYTES:
        raise Refused(f"--bom {path} has more than {_MOST_BYTES} bytes")
    content = path.read_bytes()
    try:
        document = json.loads(content)
        is_one = document["bomFormat"] == "CycloneDX"
        told = _digest_in(document)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        is_one, told = False, ""
    if not is_one:
        raise Refused(f"--bom {path} is no document of CycloneDX in JSON, as `modeldeploy bom` prints it")
    if told not in ("", sha256):
        raise Refused(f"--bom {path} is of the package {told[:12]}..., and this one is {sha256[:12]}...: write another")
    return content


def _digest_in(document: dict[str, Any]) -> str:
    """The digest that `modeldeploy bom` writes; "" in what others wrote."""
    properties = document.get("metadata", {}).get("component", {}).get("properties", ())
    return next((str(one["value"]) for one in properties if one["name"] == DIGEST), "")
