"""Names of formats and schemes that the server image of this release does not have: they may be those of a plug-in.

The definition takes any name, as a package in the server's image may add its own (docs/server.md). What is known is
registered as entry points, here as in the image; a plug-in that is installed beside the command line counts too.
https://packaging.python.org/en/latest/specifications/entry-points/
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from modeldeploy.lint.manifest import Path, Problem

#: Formats that no loader has the name of: the server chooses the loader itself.
_CHOSEN_BY_THE_SERVER = frozenset({"auto", "mlflow"})


def known_formats() -> frozenset[str]:
    """The formats that `spec.model.format` may name without a plug-in."""
    return _CHOSEN_BY_THE_SERVER | entry_points(group="modeldeploy.formats").names


def known_schemes() -> frozenset[str]:
    """The schemes that `spec.model.storageUri` may have without a plug-in."""
    return frozenset(entry_points(group="modeldeploy.sources").names) - {"http"}


def unknown_names(body: Mapping[str, Any], formats: Collection[str], schemes: Collection[str]) -> Iterator[Problem]:
    """Warnings about an object whose structure is right. Pure."""
    for path, model in _models(body["spec"]):
        wanted = model.get("format") or "auto"
        if wanted not in formats:
            yield Problem((*path, "format"), _question(wanted, formats))
        # Beside a container of the user's own there need not be an artifact.
        scheme = model.get("storageUri", "").partition(":/")[0]
        if scheme and scheme not in schemes:
            yield Problem((*path, "storageUri"), _question(scheme, schemes))


def _models(spec: Mapping[str, Any]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The models that an object names, with their paths: one, or the list of a ModelPool."""
    if "models" in spec:
        yield from ((("spec", "models", index), one) for index, one in enumerate(spec["models"]))
    else:
        yield ("spec", "model"), spec.get("model") or {}


def _question(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    hint = f"did you mean {close[0]}?" if close else f"built in are {', '.join(sorted(known))}"
    return f"'{name}' is not built in; is this a plug-in of your server image? {hint}"
