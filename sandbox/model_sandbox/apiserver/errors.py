"""The API server's refusals as values: each knows the Status object that Kubernetes answers with.

Everything below the HTTP layer raises these; `server.py` alone turns them into responses.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Obj = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that is wrong: a line of `details.causes`. A few causes name no field."""

    reason: str
    field: str
    message: str

    def body(self) -> Obj:
        """The cause as it stands in a Status."""
        body = {"reason": self.reason, "message": self.message}
        return {**body, "field": self.field} if self.field else body


def go_value(value: Any) -> str:
    """A value as Kubernetes writes it in a message: JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def invalid_value(field: str, value: Any, why: str) -> Cause:
    """A value that breaks a rule."""
    return Cause("FieldValueInvalid", field, f"Invalid value: {go_value(value)}: {why}")


def required(field: str, why: str = "") -> Cause:
    """A value that is missing."""
    return Cause("FieldValueRequired", field, f"Required value{': ' + why if why else ''}")


def forbidden_field(field: str, why: str) -> Cause:
    """A value that must not be given here."""
    return Cause("FieldValueForbidden", field, f"Forbidden: {why}")


def not_supported(field: str, value: Any, known: Sequence[str]) -> Cause:
    """A value outside an enumeration; the known values are listed."""
    listed = ", ".join(f'"{one}"' for one in known)
    return Cause("FieldValueNotSupported", field, f"Unsupported value: {go_value(value)}: supported values: {listed}")


def too_long(field: str, limit: int) -> Cause:
    """A text longer than `limit` bytes."""
    return Cause("FieldValueTooLong", field, f"Too long: may not be more than {limit} bytes")


def too_many(field: str, count: int, limit: int) -> Cause:
    """A list longer than `limit` items."""
    return Cause("FieldValueTooMany", field, f"Too many: {count}: must have at most {limit} items")


class ApiError(Exception):
    """A request that is refused, with the Status that says why. Empty `details` stay, None are left out."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Obj | None = None,
        causes: Sequence[Cause] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.causes = tuple(causes)
        self.retry_after = retry_after

    def body(self) -> Obj:
        """The Status object."""
        more: Obj = {"causes": [cause.body() for cause in self.causes]} if self.causes else {}
        more |= {} if self.retry_after is None else {"retryAfterSeconds": self.retry_after}
        told: Obj = {"status": "Failure", "message": self.message, "code": self.code}
        told |= {"reason": self.reason} if self.reason else {}
        told |= {"details": {**(self.details or {}), **more}} if self.details is not None or more else {}
        return {**success(), **told}


def success(**more: Any) -> Obj:
    """The Status of what went well."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", **more}


def qualified(resource: str, group: str) -> str:
    """`deployments.apps`, or `pods` in the core group."""
    return f"{resource}.{group}" if group else resource


def _about(code: int, reason: str, message: str, named: tuple[str, str, str], causes: Sequence[Cause] = ()) -> ApiError:
    """A refusal that names its object: resource or kind, group, name."""
    details = dict(zip(("kind", "group", "name"), named, strict=True))
    return ApiError(code, reason, message, details={key: one for key, one in details.items() if one}, causes=causes)


def bad_request(message: str) -> ApiError:
    """400: the request cannot be understood."""
    return ApiError(400, "BadRequest", message)


def internal(message: str) -> ApiError:
    """500 without a reason: how Kubernetes reports a few kinds of bad input."""
    return ApiError(500, "", message)


def not_found(resource: str, group: str, name: str) -> ApiError:
    """404 for an object."""
    return _about(404, "NotFound", f'{qualified(resource, group)} "{name}" not found', (resource, group, name))


def no_such_resource() -> ApiError:
    """404 for a resource type that is not served."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", details={})


def method_not_allowed() -> ApiError:
    """405."""
    message = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", message, details={})


def already_exists(resource: str, group: str, name: str, *, deleting: bool = False) -> ApiError:
    """409 for a name that is taken."""
    told = f'{"object is being deleted: " if deleting else ""}{qualified(resource, group)} "{name}" already exists'
    return _about(409, "AlreadyExists", told, (resource, group, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(resource: str, group: str, name: str, why: str = MODIFIED) -> ApiError:
    """409 for a write that is based on an old version."""
    told = f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {why}'
    return _about(409, "Conflict", told, (resource, group, name))


def invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """422 with every field that is wrong."""
    lines = list(dict.fromkeys(f"{cause.field}: {cause.message}" for cause in causes))
    told = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    return _about(422, "Invalid", f'{qualified(kind, group)} "{name}" is invalid: {told}', (kind, group, name), causes)


def bad_options(kind: str, cause: Cause) -> ApiError:
    """422 for a parameter of the request."""
    return invalid(kind, "meta.k8s.io", "", [cause])


def bad_patch(why: str) -> ApiError:
    """422 for a patch after which the object is none any more."""
    return invalid("", "", "", [Cause("FieldValueInvalid", "patch", f'Invalid value: "{{}}": {why}')])


def rejected_patch() -> ApiError:
    """422 for a JSON patch that cannot be applied."""
    return ApiError(422, "Invalid", "the server rejected our request due to an error in our request", details={})


def forbidden(resource: str, group: str, name: str, why: str, causes: Sequence[Cause] = ()) -> ApiError:
    """403."""
    told = f"{qualified(resource, group)}{f' {go_value(name)}' if name else ''} is forbidden: {why}"
    return _about(403, "Forbidden", told, (resource, group, name), causes)


def unsupported_media_type(message: str = "415: Unsupported Media Type", *, details: bool = True) -> ApiError:
    """415."""
    return ApiError(415, "UnsupportedMediaType", message, details={} if details else None)


def gone(message: str) -> ApiError:
    """410: a version older than the history that is kept."""
    return ApiError(410, "Expired", message)


def not_ready() -> ApiError:
    """429: the storage of a kind is being set up."""
    return ApiError(429, "TooManyRequests", "storage is (re)initializing", retry_after=1)


def too_large_version(asked: int, current: int) -> ApiError:
    """504: a version from the future."""
    told = f"Timeout: Too large resource version: {asked}, current: {current}"
    cause = Cause("ResourceVersionTooLarge", "", "Too large resource version")
    return ApiError(504, "Timeout", told, causes=[cause], retry_after=1)
