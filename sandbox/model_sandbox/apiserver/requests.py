"""What a request says: its body, its parameters and the form of answer it accepts. No I/O."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
import yaml

from model_sandbox.apiserver import errors, protobuf
from model_sandbox.apiserver.errors import Cause, Obj, bad_options
from model_sandbox.apiserver.kinds import Kind
from model_sandbox.apiserver.patch import json_patch, merge_patch, strategic_merge
from model_sandbox.apiserver.resources import DeleteOptions, Write
from model_sandbox.apiserver.schema import Node

JSON, YAML = "application/json", "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
PATCHES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
_KNOWN_BODIES = (
    f"the body of the request was in an unknown format - accepted media types include: {JSON}, {YAML}, {PROTOBUF}"
)


class _Repeated(dict[str, Any]):
    """A JSON object in which keys were repeated; the last value counts."""

    names: tuple[str, ...] = ()


def _object(found: list[_Repeated], pairs: list[tuple[str, Any]]) -> Obj:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    counts = Counter(name for name, _ in pairs)
    marked = _Repeated(result)
    marked.names = tuple(name for name, count in counts.items() if count > 1)
    found.append(marked)
    return marked


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


def parse_json(data: bytes) -> tuple[Any, tuple[str, ...]]:
    """The value and the paths of repeated keys. Raises ValueError with the words of Go's decoder."""
    found: list[_Repeated] = []
    try:
        value = json.loads(data, object_pairs_hook=partial(_object, found), parse_constant=_no_constant)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        at_end = isinstance(error, json.JSONDecodeError) and error.pos >= len(data.rstrip())
        raise ValueError("unexpected end of JSON input" if at_end else f"invalid JSON: {error}") from None
    except RecursionError:
        raise ValueError("exceeded max depth") from None
    return value, tuple(_repeated(value)) if found else ()


def _no_constant(name: str) -> Any:
    raise ValueError(f"invalid JSON: {name} is no JSON number")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as Kubernetes reads it: times stay texts."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^[yYnN]$"), list("yYnN"))
_Loader.add_constructor(
    "tag:yaml.org,2002:bool",
    lambda loader, node: node.value.lower() in ("y", "yes", "true", "on"),
)


def parse_yaml(data: bytes) -> Any:
    """A YAML body. Raises ValueError."""
    try:
        return orjson.loads(data)  # what most clients send is the JSON that YAML includes, and read sooner so
    except orjson.JSONDecodeError:
        pass
    try:
        return yaml.load(data, Loader=_Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"error converting YAML to JSON: {error}") from None


def parse_applied(data: bytes) -> Obj:
    """The configuration of an apply patch; raises 400."""
    try:
        applied = parse_yaml(data)
    except ValueError as error:
        raise errors.bad_request(f"error decoding YAML: {error}") from None
    if not isinstance(applied, dict):
        raise errors.bad_request("invalid object type: /, Kind=")
    return applied


def parse_patch(form: str, data: bytes, kind: Kind) -> Callable[[Obj], Any]:
    """The function that a JSON, merge or strategic patch is; raises 400."""
    try:
        patch, _ = parse_json(data)
    except ValueError as error:
        prefix = "error decoding patch: " if form == "json" else ""
        raise errors.bad_request(f"{prefix}{error}") from None
    if form == "json":
        return lambda shown: json_patch(shown, patch)
    if not isinstance(patch, dict):
        raise errors.bad_request("json: cannot unmarshal the patch into Go value of type map[string]interface {}")
    if form == "merge":
        return lambda shown: merge_patch(shown, patch)
    return lambda shown: strategic_merge(kind.node, shown, patch)


def _parse_protobuf(data: bytes, node: Node | None) -> Obj:
    api_version, kind, raw = protobuf.envelope(data)
    if node is None or not node.strict:
        raise errors.unsupported_media_type(_KNOWN_BODIES, details=False)
    try:
        return {"apiVersion": api_version, "kind": kind, **protobuf.decode(node, raw)}
    except (ValueError, OverflowError) as error:
        raise protobuf.ProtobufError(str(error)) from None


def parse_body(data: bytes, media: str, kind: str, node: Node | None = None) -> tuple[Any, tuple[str, ...]]:
    """The object of a POST or PUT and its repeated keys; `node` reads protobuf. Raises 400 or 415."""
    try:
        if media == PROTOBUF:
            return _parse_protobuf(data, node), ()
        if media in ("", JSON):
            value, repeated = parse_json(data)
        elif media in (YAML, "application/x-yaml", "text/yaml"):
            value, repeated = parse_yaml(data), ()
        else:
            raise errors.unsupported_media_type(_KNOWN_BODIES, details=False)
    except ValueError as error:
        start = data[:20].decode(errors="replace") + (" ..." if len(data) > 20 else "") or "<empty>"
        raise errors.bad_request(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; "
            f"json parse error: {error} ({start})"
        ) from None
    if not isinstance(value, dict):
        raise errors.bad_request(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; "
            f"json parse error: a {type(value).__name__} is no object"
        )
    return value, repeated


@dataclass(frozen=True, slots=True)
class Answer:
    """The form of answer a client accepts."""

    form: str = "object"  # object | table | metadata
    media: str = JSON


def accepted(header: str) -> Answer:
    """The first form in an Accept header that can be served; raises 406."""
    for part in (header or "*/*").split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        given = dict(piece.split("=", 1) for piece in parameters if "=" in piece)
        if media in (JSON, "*/*", "application/*", YAML):
            served = YAML if media == YAML else JSON
            wanted = given.get("as")
            if wanted is None:
                return Answer(media=served)
            if given.get("v") == "v1" and wanted == "Table":
                return Answer("table", served)
            if given.get("v") == "v1" and wanted in ("PartialObjectMetadata", "PartialObjectMetadataList"):
                return Answer("metadata", served)
    served = f"{JSON}, {YAML}, {PROTOBUF}"
    if ";" in header and JSON in header:
        told = f"only the following media types are accepted: {served}"
        raise errors.ApiError(406, "NotAcceptable", told)
    message = f"406: Not Acceptable\n\nAvailable representations: {served}"
    raise errors.ApiError(406, "NotAcceptable", message, details={})


def wants_aggregated(header: str) -> bool:
    """Whether discovery shall be aggregated; raises 406 when only a version is accepted that is not served."""
    known = False
    for part in (header or "*/*").split(","):
        pieces = [piece.strip() for piece in part.split(";")]
        if "as=APIGroupDiscoveryList" not in pieces:
            known = known or pieces[0] in (JSON, "*/*", "application/*")
        elif "v=v2" in pieces:
            return True
        if known:
            return False
    told = "only the following media types are accepted: application/json"
    raise errors.ApiError(406, "NotAcceptable", told)


def integer(query: Mapping[str, str], name: str) -> int | None:
    """A whole number among the parameters; raises 400."""
    text = query.get(name, "")
    if text == "":
        return None
    try:
        return int(text)
    except ValueError:
        raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean among the parameters."""
    return query.get(name, "").lower() in ("true", "1")


_VALIDATIONS = ("", "Ignore", "Strict", "Warn")


def write_options(
    query: Mapping[str, str], agent: str, now: str, *, options: str, repeated: tuple[str, ...] = ()
) -> Write:
    """The parameters of a write; `options` names the kind in errors, as in CreateOptions. Raises 422."""
    dry = query.get("dryRun", "")
    if dry not in ("", "All"):
        raise bad_options(options, errors.not_supported("dryRun", [dry], ["All"]))
    validation = query.get("fieldValidation", "")
    if validation not in _VALIDATIONS:
        raise bad_options(options, errors.not_supported("fieldValidation", validation, _VALIDATIONS))
    manager = query.get("fieldManager", "")
    if len(manager.encode()) > 128:
        raise bad_options(options, errors.too_long("fieldManager", 128))
    if not manager.isprintable():
        raise bad_options(
            options, errors.invalid_value("fieldManager", manager, "should only contain printable characters")
        )
    return Write(
        manager=manager or agent.split("/", 1)[0] or "unknown",
        now=now,
        dry_run=dry == "All",
        validation=validation or "Warn",
        duplicates=repeated,
        force=flag(query, "force"),
        is_patch=options == "PatchOptions",
    )


_POLICIES = ["Foreground", "Background", "Orphan"]


def delete_options(query: Mapping[str, str], body: Obj) -> DeleteOptions:
    """How to delete, from the body or else the parameters; raises 400 or 422."""
    kind = body.get("kind", "DeleteOptions")
    if kind != "DeleteOptions":
        raise errors.bad_request(f'no kind "{kind}" is registered for version "{body.get("apiVersion", "")}"')
    policy = body.get("propagationPolicy") or query.get("propagationPolicy", "")
    orphan = body.get("orphanDependents")
    if orphan is None and "orphanDependents" in query:
        orphan = flag(query, "orphanDependents")
    if policy and orphan is not None:
        why = "orphanDependents and deletionPropagation cannot be both set"
        raise bad_options("DeleteOptions", errors.invalid_value("propagationPolicy", policy, why))
    if policy and policy not in _POLICIES:
        told = [*_POLICIES, "nil"]
        raise bad_options("DeleteOptions", errors.not_supported("propagationPolicy", policy, told))
    dry = body.get("dryRun") or [one for one in (query.get("dryRun", ""),) if one]
    if dry not in ([], ["All"]):
        raise bad_options("DeleteOptions", errors.not_supported("dryRun", dry, ["All"]))
    grace = body.get("gracePeriodSeconds")
    if grace is None:
        grace = integer(query, "gracePeriodSeconds")
    preconditions = body.get("preconditions") or {}
    return DeleteOptions(
        policy=policy or ("Orphan" if orphan else "Background" if orphan is False else ""),
        grace=grace,
        uid=preconditions.get("uid", ""),
        version=preconditions.get("resourceVersion", ""),
        dry_run=bool(dry),
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
    include: str = "Metadata"


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
        include=query.get("includeObject", "Metadata"),
    )
    causes = _list_causes(options)
    if causes:
        raise errors.invalid("ListOptions", "meta.k8s.io", "", causes)
    return options


def _list_causes(options: ListOptions) -> list[Cause]:
    cause = _match_cause(options)
    causes = [cause] if cause is not None else []
    if options.initial is not None and not options.watch:
        causes.append(errors.forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return causes


def _match_cause(options: ListOptions) -> Cause | None:
    name = "resourceVersionMatch"
    if options.initial is not None and options.watch:
        if options.match != "NotOlderThan":
            return errors.forbidden_field(
                name, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            )
        return None
    if not options.match:
        return None
    if options.watch:
        return errors.forbidden_field(name, "resourceVersionMatch is forbidden for watch")
    if not options.version:
        return errors.forbidden_field(name, "resourceVersionMatch is forbidden unless resourceVersion is provided")
    if options.match not in ("Exact", "NotOlderThan"):
        return errors.not_supported(name, options.match, ["Exact", "NotOlderThan", ""])
    if options.match == "Exact" and options.version == "0":
        return errors.forbidden_field(name, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
    return None
