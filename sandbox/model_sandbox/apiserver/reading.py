"""What a client sent as an object of a kind; `resources.py` and `server.py` ask. No I/O."""

from __future__ import annotations

from typing import Any

from model_sandbox.apiserver import errors
from model_sandbox.apiserver.errors import Obj, bad_request
from model_sandbox.apiserver.kinds import Kind
from model_sandbox.apiserver.preserving import NAMESPACE_DIFFERS, check_name
from model_sandbox.apiserver.requests import Write
from model_sandbox.apiserver.schema import JSON_NAMES, DecodeError, decode
from model_sandbox.apiserver.store import Key


def read(kind: Kind, body: Any, write: Write) -> Obj:
    """A request's body as a typed object with apiVersion and kind, without what the schema does not know."""
    if not isinstance(body, dict):
        raise bad_request(f"{kind.kind} must be a JSON object")
    for name in ("kind", "apiVersion"):
        if not isinstance(body.get(name) or "", str):
            told = f"json: cannot unmarshal {JSON_NAMES[type(body[name])]} into Go struct field .{name} of type string"
            raise bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {told}')
    missing = [told for name, told in (("kind", "Kind"), ("apiVersion", "apiVersion")) if not body.get(name)]
    if kind.custom and missing:
        raise bad_request(f"Object '{missing[0]}' is missing in the body: write kind: {kind.kind}")
    given, named = body.get("apiVersion") or kind.api_version, body.get("kind") or kind.kind
    prefix = f'{named} in version "{given.rpartition("/")[2]}" cannot be handled as a {kind.kind}: '
    content = {name: value for name, value in body.items() if name not in ("apiVersion", "kind")}
    if kind.custom and named != kind.kind and given == kind.api_version:
        cause = errors.invalid_value("kind", named, f"must be {kind.kind}")
        raise errors.invalid(named, kind.group, _metadata(body).get("name", ""), [cause])
    if given != kind.api_version or named != kind.kind:
        if kind.custom and named == kind.kind:
            # Of a version that is not served, nothing but metadata is known.
            write.warnings.extend(f'unknown field "{name}"' for name in content if name != "metadata")
        raise bad_request(f"{prefix}no such kind here: write {kind.api_version}, {kind.kind}")
    unknown: list[str] = []
    try:
        content["metadata"] = {} if content.get("metadata") is None else content["metadata"]
        decoded: Obj = decode(kind.node, content, unknown)
    except DecodeError as error:
        raise bad_request(prefix + str(error)) from None
    problems = [f'unknown field "{path}"' for path in sorted(unknown)]
    problems += [f'duplicate field "{path}"' for path in write.duplicates]
    if problems and write.validation == "Strict":
        raise bad_request(f"{prefix}strict decoding error: {', '.join(problems)}")
    if write.validation == "Warn":
        write.warnings.extend(problems)
    decoded["metadata"].pop("selfLink", None)
    return {"kind": kind.kind, "apiVersion": kind.api_version, **decoded}


def check_applied(kind: Kind, applied: Obj, key: Key) -> None:
    """Raise 400 for the configuration of an apply that is not of the object in the URL."""
    if not applied.get("apiVersion") or not applied.get("kind"):
        raise bad_request("invalid object type: /, Kind=")
    metadata = _metadata(applied)
    if metadata.get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    if isinstance(metadata.get("name", ""), str):
        check_name(metadata, key[1])
    if (applied["apiVersion"], applied["kind"]) != (kind.api_version, kind.kind):
        raise bad_request(f"{applied['kind']} cannot be handled as a {kind.kind}")
    if kind.namespaced and metadata.get("namespace", key[0]) != key[0]:
        raise bad_request(NAMESPACE_DIFFERS)


def _metadata(body: Obj) -> Obj:
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise bad_request(f"metadata must be an object, not {JSON_NAMES.get(type(metadata), 'null')}")
    return metadata
