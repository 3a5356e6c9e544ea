"""What a request says besides its body: its parameters and the form of answer it accepts. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from model_sandbox.apiserver import errors
from model_sandbox.apiserver.bodies import JSON, SERVED, YAML
from model_sandbox.apiserver.errors import ApiError, Obj, bad_options, bad_request, forbidden_field, not_supported
from model_sandbox.apiserver.schema import DecodeError, Node, decode


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
        raise ApiError(406, "NotAcceptable", f"only the following media types are accepted: {SERVED}")
    message = f"406: Not Acceptable\n\nAvailable representations: {SERVED}"
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
