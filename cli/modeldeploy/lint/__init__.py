"""Checks manifests offline as the API server would: schema, then rules. Used by `modeldeploy lint`."""

from modeldeploy.lint.check import Definition, check_object, read_definitions
from modeldeploy.lint.manifest import Document, ManifestError, Problem, read_documents

__all__ = [
    "Definition",
    "Document",
    "ManifestError",
    "Problem",
    "check_object",
    "read_definitions",
    "read_documents",
]
