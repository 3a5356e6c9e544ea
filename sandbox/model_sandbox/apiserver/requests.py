"""What a request says: its body, its parameters and the form of answer it accepts. No I/O."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import yaml

from model_sandbox.apiserver import errors, protobuf
from model_sandbox.apiserver.errors import ApiError, Obj, bad_options, bad_request, forbidden_field, not_supported
from model_sandbox.apiserver.patch import json_patch, merge_patch, strategic_merge
from model_sandbox.apiserver.schema import JSON_NAMES, DecodeError, Node, decode

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
MAX_YAML = 1_000_000  # values of a YAML body, aliases written out
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
PATCHES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
_SERVED = f"{JSON}, {YAML}, {PROTOBUF}"
_KNOWN_BODIES = f"the body of the request was in an unknown format - accepted media types include: {_SERVED}"


# --- bodies


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


# --- forms of answer


@dataclass(frozen=True, slots=True)
class Answer:
    """The form of answer a client accepts."""

    form: str = "object"  # object | table | metadata
    media: str = JSON


_FORMS = {"": "object", "Table": "table", "PartialObjectMetadata": "metadata", "PartialObjectMetadataList": "metadata"}
_ANY = (JSON, "*/*", "application/*")


def _offers(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The media types of an Accept header with their parameters."""
    for part in (header or "*/*").split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        yield media, dict(piece.split("=", 1) for piece in parameters if "=" in piece)


def accepted(header: str) -> Answer:
    """The first form in an Accept header that can be served; raises 406."""
    for media, given in _offers(header):
        if given.get("as", "") in _FORMS and given.get("v", "v1") == "v1" and media in (*_ANY, YAML):
            return Answer(_FORMS[given.get("as", "")], YAML if media == YAML else JSON)
    if ";" in header and JSON in header:
        raise ApiError(406, "NotAcceptable", f"only the following media types are accepted: {_SERVED}")
    message = f"406: Not Acceptable\n\nAvailable representations: {_SERVED}"
    raise ApiError(406, "NotAcceptable", message, details={})


def wants_aggregated(header: str) -> bool:
    """Whether discovery shall be aggregated; raises 406 when only a version is accepted that is not served."""
    for media, given in _offers(header):
        aggregated = given.get("as") == "APIGroupDiscoveryList"
        if given.get("v") == "v2" if aggregated else media in _ANY:
            return aggregated
    raise ApiError(406, "NotAcceptable", f"only the following media types are accepted: {JSON}")


# --- parameters


def integer(query: Mapping[str, str], name: str) -> int | None:
    """A whole number among the parameters; raises 400."""
    text = query.get(name, "")
    try:
        return int(text) if text else None
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean among the parameters."""
    return query.get(name, "").lower() in ("true", "1")


def _check_dry_run(options: str, given: list[str]) -> bool:
    if given not in ([], ["All"]):
        raise bad_options(options, not_supported("dryRun", given, ["All"]))
    return bool(given)


@dataclass(frozen=True, slots=True)
class Write:
    """What a write request asks for beside its body. `warnings` collects what the answer shall warn of."""

    manager: str
    now: str
    dry_run: bool = False
    validation: str = "Warn"  # fieldValidation
    duplicates: tuple[str, ...] = ()
    force: bool = False
    is_patch: bool = False
    warnings: list[str] = field(default_factory=list)


_VALIDATIONS = ("", "Ignore", "Strict", "Warn")


def write_options(query: Mapping[str, str], agent: str, now: str, method: str) -> Write:
    """The parameters of a write by an HTTP method; `agent` is the client's name. Raises 422."""
    options = {"POST": "CreateOptions", "PUT": "UpdateOptions"}.get(method, "PatchOptions")
    validation, manager = query.get("fieldValidation", ""), query.get("fieldManager", "")
    dry_run = _check_dry_run(options, [one for one in (query.get("dryRun"),) if one])
    if validation not in _VALIDATIONS:
        raise bad_options(options, not_supported("fieldValidation", validation, _VALIDATIONS))
    if len(manager.encode()) > 128:
        raise bad_options(options, errors.too_long("fieldManager", 128))
    if not manager.isprintable():
        told = "should only contain printable characters"
        raise bad_options(options, errors.invalid_value("fieldManager", manager, told))
    return Write(
        manager=manager or agent.split("/", 1)[0] or "unknown",
        now=now,
        dry_run=dry_run,
        validation=validation or "Warn",
        force=flag(query, "force"),
        is_patch=options == "PatchOptions",
    )


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """How to delete."""

    policy: str = ""  # Foreground | Background | Orphan
    grace: int | None = None
    uid: str = ""
    version: str = ""
    dry_run: bool = False


_POLICIES = ("Foreground", "Background", "Orphan")


def delete_options(query: Mapping[str, str], body: Obj, node: Node) -> DeleteOptions:
    """How to delete, from the body or else the parameters; raises 400 or 422."""
    options = "DeleteOptions"
    if body.get("kind", options) != options:
        raise bad_request(f'no kind "{body["kind"]}" is registered for version "{body.get("apiVersion", "")}"')
    try:
        body = decode(node, {name: value for name, value in body.items() if name not in ("kind", "apiVersion")}, [])
    except DecodeError as error:
        raise bad_request(f'{options} in version "v1" cannot be handled as a {options}: {error}') from None
    policy = body.get("propagationPolicy") or query.get("propagationPolicy", "")
    orphan = body.get("orphanDependents")
    if orphan is None and "orphanDependents" in query:
        orphan = flag(query, "orphanDependents")
    if policy and orphan is not None:
        why = "orphanDependents and deletionPropagation cannot be both set"
        raise bad_options(options, errors.invalid_value("propagationPolicy", policy, why))
    if policy and policy not in _POLICIES:
        raise bad_options(options, not_supported("propagationPolicy", policy, [*_POLICIES, "nil"]))
    grace, preconditions = body.get("gracePeriodSeconds"), body.get("preconditions") or {}
    return DeleteOptions(
        policy=policy or ("Orphan" if orphan else "Background" if orphan is False else ""),
        grace=integer(query, "gracePeriodSeconds") if grace is None else grace,
        uid=preconditions.get("uid", ""),
        version=preconditions.get("resourceVersion", ""),
        dry_run=_check_dry_run(options, body.get("dryRun") or [one for one in (query.get("dryRun"),) if one]),
    )


@dataclass(frozen=True, slots=True)
class ListOptions:
    """The parameters of a list or watch."""

    labels: str = ""
    fields: str = ""
    limit: int = 0
    proceed: str = ""  # the continue token
    version: str = ""
    match: str = ""
    watch: bool = False
    bookmarks: bool = False
    initial: bool | None = None  # sendInitialEvents
    timeout: int | None = None


def list_options(query: Mapping[str, str]) -> ListOptions:
    """The parameters of a list or watch; raises 400 or 422."""
    options = ListOptions(
        labels=query.get("labelSelector", ""),
        fields=query.get("fieldSelector", ""),
        limit=integer(query, "limit") or 0,
        proceed=query.get("continue", ""),
        version=query.get("resourceVersion", ""),
        match=query.get("resourceVersionMatch", ""),
        watch=flag(query, "watch") or query.get("watch") == "",
        bookmarks=flag(query, "allowWatchBookmarks"),
        initial=flag(query, "sendInitialEvents") if "sendInitialEvents" in query else None,
        timeout=integer(query, "timeoutSeconds"),
    )
    name, causes = "resourceVersionMatch", []
    why = _match_problem(options)
    if why:
        causes = [forbidden_field(name, why)]
    elif options.match not in ("", "Exact", "NotOlderThan"):
        causes = [not_supported(name, options.match, ["Exact", "NotOlderThan", ""])]
    if options.initial is not None and not options.watch:
        causes.append(forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if causes:
        raise errors.invalid("ListOptions", "meta.k8s.io", "", causes)
    return options


def _match_problem(options: ListOptions) -> str:
    """Why a resourceVersionMatch may not be given, or must be."""
    if options.initial is not None and options.watch:
        needs = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        return needs if options.match != "NotOlderThan" else ""
    if options.match and options.watch:
        return "resourceVersionMatch is forbidden for watch"
    if options.match and not options.version:
        return "resourceVersionMatch is forbidden unless resourceVersion is provided"
    zero = options.match == "Exact" and options.version == "0"
    return 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"' if zero else ""
