"""The rules of metadata that hold for every kind: names, labels, owners, finalizers."""

from __future__ import annotations

import re
from collections.abc import Callable

from model_sandbox.apiserver.errors import Cause, Obj, forbidden_field, invalid_value, required, too_long

_WORD = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_DNS = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
LABEL_VALUE, _NAME_PART, _LABEL = re.compile(f"({_WORD})?"), re.compile(_WORD), re.compile(_DNS)
_SUBDOMAIN = re.compile(rf"{_DNS}(\.{_DNS})*")
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN.pattern}')"
)
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    f"an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_DNS}')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{LABEL_VALUE.pattern}')"
)
_KEY_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_WORD}')"
)
_LONG = "must be no more than {} characters"
_STANDARD_FINALIZERS = {"orphan", "foregroundDeletion", "kubernetes"}
MAX_ANNOTATIONS = 256 * 1024


def _text_errors(text: str, longest: int, pattern: re.Pattern[str], told: str) -> list[str]:
    if len(text) > longest:
        return [_LONG.format(longest)]
    return [] if pattern.fullmatch(text) else [told]


def dns_label_errors(name: str) -> list[str]:
    """Why a text is no DNS label: the rule for namespaces, Services and containers."""
    return _text_errors(name, 63, _LABEL, _LABEL_TEXT)


# By the name_rule of a kind; `path`: names of RBAC objects, which may hold `:`.
NAME_RULES: dict[str, Callable[[str], list[str]]] = {
    "label": dns_label_errors,
    "subdomain": lambda name: _text_errors(name, 253, _SUBDOMAIN, _SUBDOMAIN_TEXT),
    "path": lambda name: (
        [f"may not be '{name}'"]
        if name in (".", "..")
        else [f"may not contain '{bad}'" for bad in ("/", "%") if bad in name]
    ),
}


def qualified_name_errors(key: str) -> list[str]:
    """Why a text is no label or annotation key."""
    prefix, slash, name = key.rpartition("/")
    problems = [f"prefix part {_SUBDOMAIN_TEXT}"] if slash and not _SUBDOMAIN.fullmatch(prefix) else []
    if not name:
        problems.append("name part must be non-empty")
    elif len(name) > 63:
        problems.append(f"name part {_LONG.format(63)}")
    return problems if _NAME_PART.fullmatch(name) else [*problems, _KEY_TEXT]


def label_causes(labels: dict[str, str], path: str) -> list[Cause]:
    """What is wrong with a map of labels."""
    causes: list[Cause] = []
    for key, value in labels.items():
        causes += [invalid_value(path, key, why) for why in qualified_name_errors(key)]
        causes += [invalid_value(path, value, why) for why in _text_errors(value, 63, LABEL_VALUE, _VALUE_TEXT)]
    return causes


def metadata_causes(metadata: Obj, *, name_rule: str, namespaced: bool, custom: bool) -> list[Cause]:
    """What is wrong with an object's metadata, whatever its kind."""
    causes: list[Cause] = []
    name, generate = metadata.get("name", ""), metadata.get("generateName", "")
    stem = generate[:-1] if generate.endswith(("-", ".")) else generate
    if generate:
        causes += [invalid_value("metadata.generateName", generate, why) for why in NAME_RULES[name_rule](stem)]
    if name:
        causes += [invalid_value("metadata.name", name, why) for why in NAME_RULES[name_rule](name)]
    else:
        causes.append(required("metadata.name", "name or generateName is required"))
    if namespaced and not metadata.get("namespace"):
        causes.append(required("metadata.namespace"))
    causes += label_causes(metadata.get("labels") or {}, "metadata.labels")
    annotations, owners = metadata.get("annotations") or {}, metadata.get("ownerReferences") or []
    for key in annotations:
        causes += [invalid_value("metadata.annotations", key, why) for why in qualified_name_errors(key.lower())]
    if sum(len(key) + len(value) for key, value in annotations.items()) > MAX_ANNOTATIONS:
        causes.append(too_long("metadata.annotations", MAX_ANNOTATIONS))
    for owner in owners:
        empty = [name for name in ("apiVersion", "kind", "name", "uid") if not owner.get(name)]
        causes += [invalid_value(f"metadata.ownerReferences.{name}", "", "must not be empty") for name in empty]
    if sum(bool(owner.get("controller")) for owner in owners) > 1:
        told = "Only one reference can have Controller set to true."
        causes.append(invalid_value("metadata.ownerReferences", None, told))
    for index, finalizer in enumerate(metadata.get("finalizers") or []):
        problems = qualified_name_errors(finalizer)
        if not (problems or custom or "/" in finalizer or finalizer in _STANDARD_FINALIZERS):
            problems = ["name is neither a standard finalizer name nor is it fully qualified"]
        causes += [invalid_value(f"metadata.finalizers[{index}]", finalizer, why) for why in problems]
    return causes


IMMUTABLE = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def metadata_update_causes(new: Obj, old: Obj) -> list[Cause]:
    """What an update must not do to metadata."""
    changed = (name for name in IMMUTABLE if new.get(name) != old.get(name))
    causes = [invalid_value(f"metadata.{name}", new.get(name), "field is immutable") for name in changed]
    added = set(new.get("finalizers") or []) - set(old.get("finalizers") or [])
    if old.get("deletionTimestamp") and added:
        told = ", ".join(f'"{one}"' for one in sorted(added))
        why = "no new finalizers can be added if the object is being deleted, found new finalizers "
        causes.append(forbidden_field("metadata.finalizers", f"{why}[]string{{{told}}}"))
    return causes
