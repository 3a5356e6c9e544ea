"""What the body of a request says, in each form that clients send. No I/O."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import yaml

from model_sandbox.apiserver import errors, protobuf
from model_sandbox.apiserver.errors import Obj, bad_request
from model_sandbox.apiserver.patch import json_patch, merge_patch, strategic_merge
from model_sandbox.apiserver.schema import JSON_NAMES, Node

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
MAX_YAML = 1_000_000  # values of a YAML body, aliases written out
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
PATCHES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
SERVED = f"{JSON}, {YAML}, {PROTOBUF}"
_KNOWN_BODIES = f"the body of the request was in an unknown format - accepted media types include: {SERVED}"


class _Repeated(dict[str, Any]):
    """A JSON object in which keys were repeated; the last value counts."""

    names: tuple[str, ...] = ()


def _object(found: list[_Repeated], pairs: list[tuple[str, Any]]) -> Obj:
    result = dict(pairs)
    if len(result) < len(pairs):
        result = marked = _Repeated(result)
        marked.names = tuple(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        found.append(marked)
    return result


def _repeated(value: Any, path: str = "") -> Iterator[str]:
    """The paths of repeated keys."""
    if isinstance(value, dict):
        start = f"{path}." if path else ""
        yield from (start + name for name in getattr(value, "names", ()))
        for name, item in value.items():
            yield from _repeated(item, start + name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _repeated(item, f"{path}[{index}]")


def _number(text: str) -> float:
    """A number of JSON; what is no 64-bit integer is a float, as in Go. Raises ValueError."""
    if text.lstrip("-").isdigit() and len(text) <= 20 and -(2**63) <= int(text) < 2**63:
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"invalid JSON: {text} is no JSON number")
    return value


def parse_json(data: bytes) -> tuple[Any, tuple[str, ...]]:
    """The value and the paths of repeated keys. Raises ValueError with the words of Go's decoder."""
    found: list[_Repeated] = []
    try:
        text, pairs = data.decode(), partial(_object, found)
        value = json.loads(
            text, object_pairs_hook=pairs, parse_constant=_number, parse_int=_number, parse_float=_number
        )
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # half a character cannot be
    except (json.JSONDecodeError, UnicodeError) as error:
        at_end = isinstance(error, json.JSONDecodeError) and error.pos >= len(text.rstrip())
        raise ValueError("unexpected end of JSON input" if at_end else f"invalid JSON: {error}") from None
    except RecursionError:
        raise ValueError("exceeded max depth") from None
    return value, tuple(_repeated(value)) if found else ()


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as Kubernetes reads it: times stay texts, y and n are booleans."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_BOOL = "tag:yaml.org,2002:bool"
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^[yYnN]$"), list("yYnN"))
_Loader.add_constructor(_BOOL, lambda loader, node: node.value.lower() in ("y", "yes", "true", "on"))


def parse_yaml(data: bytes) -> tuple[Any, tuple[str, ...]]:
    """A YAML body as `parse_json` reads it. Raises ValueError."""
    try:
        return parse_json(data)  # what most clients send is the JSON that YAML includes, and read sooner so
    except ValueError:
        pass
    try:
        if yaml_size(yaml.compose(data, Loader=_Loader), {}) > MAX_YAML:
            raise ValueError("document contains excessive aliasing")
        return parse_json(json.dumps(yaml.load(data, Loader=_Loader)).encode())  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"error converting YAML to JSON: {error}") from None


def yaml_size(node: Any, known: dict[int, int]) -> int:
    """How many values a YAML document has once its aliases are written out. Raises ValueError for a circle."""
    if id(node) not in known:
        known[id(node)] = MAX_YAML + 1  # what contains itself has no end
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        below = (part for item in parts for part in (item if isinstance(item, tuple) else (item,)))
        known[id(node)] = 1 + sum(yaml_size(part, known) for part in below)
    return known[id(node)]


def parse_body(data: bytes, media: str, kind: str, node: Node | None = None) -> tuple[Any, tuple[str, ...]]:
    """The object of a POST or PUT and its repeated keys; `node` reads protobuf. Raises 400 or 415."""
    repeated: tuple[str, ...] = ()
    try:
        if media == PROTOBUF and node is not None and node.strict:
            value: Any = protobuf.decode_body(node, data)
        elif media in ("", JSON):
            value, repeated = parse_json(data)
        elif media in (YAML, "application/x-yaml", "text/yaml"):
            value, repeated = parse_yaml(data)
        else:
            raise errors.unsupported_media_type(_KNOWN_BODIES, details=False)
        if not isinstance(value, dict):
            raise ValueError(f"json: cannot unmarshal {JSON_NAMES.get(type(value), 'null')} into an object")
        for name in ("kind", "apiVersion"):
            if not isinstance(value.get(name, ""), str):
                told = JSON_NAMES.get(type(value[name]), "null")
                raise ValueError(f"json: cannot unmarshal {told} into Go struct field .{name} of type string")
    except (ValueError, OverflowError) as error:
        start = data[:30].decode(errors="replace") + (" ..." if len(data) > 30 else "") or "<empty>"
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; "
            f"json parse error: {error} ({start})"
        ) from None
    return value, repeated


def parse_applied(data: bytes) -> Obj:
    """The configuration of an apply patch; raises 400."""
    try:
        applied, _ = parse_yaml(data)
    except ValueError as error:
        raise bad_request(f"error decoding YAML: {error}") from None
    if not isinstance(applied, dict):
        raise bad_request("invalid object type: /, Kind=")
    return applied


def parse_patch(form: str, data: bytes, node: Node) -> Callable[[Obj], Any]:
    """The function that a JSON, merge or strategic patch is; raises 400."""
    try:
        patch, _ = parse_json(data)
    except ValueError as error:
        raise bad_request(f"{'error decoding patch: ' if form == 'json' else ''}{error}") from None
    if form == "json":
        return lambda shown: json_patch(shown, patch)
    if not isinstance(patch, dict):
        raise bad_request("json: cannot unmarshal the patch into Go value of type map[string]interface {}")
    return lambda shown: merge_patch(shown, patch) if form == "merge" else strategic_merge(node, shown, patch)
