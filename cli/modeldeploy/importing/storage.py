"""Storage URIs and formats of KServe and Seldon. PURE."""

import re
from collections.abc import Mapping

from modeldeploy.importing.values import Finding, changed
from modeldeploy.requests import Refused

_KNOWN = ("s3", "gs", "az", "https", "hf", "oci", "pvc", "file", "models", "model-registry")
_HUGGING_FACE = re.compile(r"(hf://[^/:]+/[^/:]+):([^/]+)")
_MODEL_REGISTRY = re.compile(r"model-registry://(?P<host>[^/]+:[0-9]+|[^/]+(?=/[^/]+/[^/]+$))/(?P<rest>[^/]+(/[^/]+)?)")
_ELSEWHERE = "copy the model to a storage of these, and name it with --storage-uri"

#: Formats whose files run code when they are loaded.
RUNS_CODE = frozenset({"sklearn", "torchscript", "keras", "python"})

#: Names of formats and servers elsewhere, and ours; None for what has no counterpart.
FORMATS: Mapping[str, str] = {
    "sklearn": "sklearn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "onnx": "onnx",
    "pytorch": "torchscript",
    "pmml": "pmml",
    "mlflow": "mlflow",
    "huggingface": "transformers",
}


def storage_uri(uri: str, path: str) -> tuple[str, list[Finding]]:
    """Return the URI as `spec.model.storageUri` takes it. Raises Refused for a scheme that servers cannot read."""
    scheme, separator, rest = uri.partition("://")
    if separator and scheme == "http":
        raise Refused(
            f"{path}: {uri} is not encrypted, and servers do not download from it; write https://, or {_ELSEWHERE}"
        )
    if not (separator and rest and scheme in _KNOWN) and not uri.startswith("models:/"):
        raise Refused(f"{path}: {uri!r} is no storage that servers read; known are {', '.join(_KNOWN)}: {_ELSEWHERE}")
    if found := _HUGGING_FACE.fullmatch(uri):
        written = f"{found[1]}@{found[2]}"
        return written, [changed(path, f"the revision of {uri} is written with an @: {written}")]
    if scheme == "model-registry" and (found := _MODEL_REGISTRY.fullmatch(uri.partition("?")[0])):
        address = f"registry: {{url: http://{found['host']}}}"
        where = f"the address of the registry is no part of the URI: add {address} to model"
        return f"{scheme}://{found['rest']}", [changed(path, where)]
    return uri, []


def code_finding(path: str, format_: str) -> Finding:
    """Return the finding about a file elsewhere that runs code when it is loaded, and that nobody vouches for."""
    return changed(
        path,
        f"a {format_} file runs code when it is loaded, so that servers refuse it until model.sha256 has its digest"
        " (they print it, as does modeldeploy package), or with model.trusted: true (import it with --trusted)",
    )
