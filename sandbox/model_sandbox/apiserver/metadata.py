"""The rules of metadata that hold for every kind: names, labels, owners, finalizers."""

from __future__ import annotations

import re
from typing import Any

from model_sandbox.apiserver.errors import (
    Cause,
    Obj,
    forbidden_field,
    invalid_value,
    required,
)

LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_NAME_PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")

_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation "
    r"is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used "
    "for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_KEY_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_STANDARD_FINALIZERS = {"orphan", "foregroundDeletion", "kubernetes"}
MAX_ANNOTATIONS = 256 * 1024


def subdomain_errors(name: str) -> list[str]:
    """Why a text is no DNS subdomain: the rule for most names."""
    if len(name) > 253:
        return ["must be no more than 253 characters"]
    return [] if _SUBDOMAIN.fullmatch(name) else [_SUBDOMAIN_TEXT]


def dns_label_errors(name: str) -> list[str]:
    """Why a text is no DNS label: the rule for namespaces, Services and containers."""
    if len(name) > 63:
        return ["must be no more than 63 characters"]
    return [] if _DNS_LABEL.fullmatch(name) else [_LABEL_TEXT]


def path_segment_errors(name: str) -> list[str]:
    """Why a text is no path segment: the rule for RBAC names, which may hold `:`."""
    if name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{bad}'" for bad in ("/", "%") if bad in name]


def qualified_name_errors(key: str) -> list[str]:
    """Why a text is no label or annotation key."""
    prefix, slash, name = key.rpartition("/")
    problems = []
    if slash and (not prefix or not _SUBDOMAIN.fullmatch(prefix)):
        problems.append(f"prefix part {_SUBDOMAIN_TEXT}")
    if not name:
        problems.append("name part must be non-empty")
    elif len(name) > 63:
        problems.append("name part must be no more than 63 characters")
    if not _NAME_PART.fullmatch(name):
        problems.append(_KEY_TEXT)
    return problems


def label_causes(labels: dict[str, str], path: str) -> list[Cause]:
    """What is wrong with a map of labels."""
    causes: list[Cause] = []
    for key, value in labels.items():
        causes.extend(invalid_value(path, key, why) for why in qualified_name_errors(key))
        if len(value) > 63:
            causes.append(invalid_value(path, value, "must be no more than 63 characters"))
        elif not LABEL_VALUE.fullmatch(value):
            causes.append(invalid_value(path, value, _VALUE_TEXT))
    return causes


NAME_RULES = {"label": dns_label_errors, "subdomain": subdomain_errors, "path": path_segment_errors}


def metadata_causes(metadata: Obj, *, name_rule: str, namespaced: bool, custom: bool) -> list[Cause]:
    """What is wrong with an object's metadata, whatever its kind."""
    causes: list[Cause] = []
    name, generate = metadata.get("name", ""), metadata.get("generateName", "")
    if generate:
        stem = generate[:-1] if generate.endswith(("-", ".")) else generate
        whys = NAME_RULES[name_rule](stem)
        causes.extend(invalid_value("metadata.generateName", generate, why) for why in whys)
    if not name:
        causes.append(required("metadata.name", "name or generateName is required"))
    else:
        causes.extend(invalid_value("metadata.name", name, why) for why in NAME_RULES[name_rule](name))
    if namespaced and not metadata.get("namespace"):
        causes.append(required("metadata.namespace"))
    causes.extend(label_causes(metadata.get("labels") or {}, "metadata.labels"))
    causes.extend(_annotation_causes(metadata.get("annotations") or {}))
    for owner in metadata.get("ownerReferences") or []:
        causes.extend(_owner_causes(owner))
    controllers = [owner for owner in metadata.get("ownerReferences") or [] if owner.get("controller")]
    if len(controllers) > 1:
        told = "Only one reference can have Controller set to true."
        causes.append(invalid_value("metadata.ownerReferences", None, told))
    for index, finalizer in enumerate(metadata.get("finalizers") or []):
        causes.extend(_finalizer_causes(finalizer, f"metadata.finalizers[{index}]", custom))
    return causes


def _annotation_causes(annotations: dict[str, str]) -> list[Cause]:
    causes: list[Cause] = []
    for key in annotations:
        causes.extend(invalid_value("metadata.annotations", key, why) for why in qualified_name_errors(key.lower()))
    size = sum(len(key) + len(value) for key, value in annotations.items())
    if size > MAX_ANNOTATIONS:
        told = f"Too long: may not be more than {MAX_ANNOTATIONS} bytes"
        causes.append(Cause("FieldValueTooLong", "metadata.annotations", told))
    return causes


def _owner_causes(owner: Obj) -> list[Cause]:
    path = "metadata.ownerReferences"
    return [
        invalid_value(f"{path}.{name}", owner.get(name, ""), "must not be empty")
        for name in ("apiVersion", "kind", "name", "uid")
        if not owner.get(name)
    ]


def _finalizer_causes(finalizer: str, path: str, custom: bool) -> list[Cause]:
    problems = qualified_name_errors(finalizer)
    if problems:
        return [invalid_value(path, finalizer, why) for why in problems]
    if not custom and "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
        why = "name is neither a standard finalizer name nor is it fully qualified"
        return [invalid_value(path, finalizer, why)]
    return []


IMMUTABLE = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def metadata_update_causes(new: Obj, old: Obj) -> list[Cause]:
    """What an update must not do to metadata."""
    causes = []
    for name in IMMUTABLE:
        if new.get(name) != old.get(name):
            shown: Any = new.get(name)
            causes.append(invalid_value(f"metadata.{name}", shown, "field is immutable"))
    if old.get("deletionTimestamp"):
        held = old.get("finalizers") or []
        added = [one for one in new.get("finalizers") or [] if one not in held]
        if added:
            told = ", ".join(f'"{one}"' for one in added)
            why = "no new finalizers can be added if the object is being deleted, found new finalizers "
            causes.append(forbidden_field("metadata.finalizers", f"{why}[]string{{{told}}}"))
    return causes
