"""Filters of an HTTPRoute: the filters of the user and those of the operator in one list.

A rule may have one header modifier of each type, so that modifiers of one type are merged:
https://gateway-api.sigs.k8s.io/reference/spec/#httproutefilter
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from model_operator.api.json import Body, JsonObject
from model_operator.api.routing import RouteFilter

_MODIFIERS = {"RequestHeaderModifier": "requestHeaderModifier", "ResponseHeaderModifier": "responseHeaderModifier"}


def merged_filters(users: Sequence[RouteFilter], own: Sequence[Body]) -> list[JsonObject]:
    """Return the filters of a rule: those of the user in their order, then those of the operator.

    Header modifiers of one type become one; where both name a header, that of the operator applies.

    Args:
        users: filters of the spec.
        own: filters of the operator, as objects of the Gateway API.
    """
    merged: list[JsonObject] = []
    modifiers: dict[str, JsonObject] = {}
    for item in chain(map(as_body, users), own):
        field = _MODIFIERS.get(item["type"], "")
        if field and field in modifiers:
            modifiers[field][field] = _merged_modifier(modifiers[field][field], item[field])
            continue
        merged.append(dict(item))
        if field:
            modifiers[field] = merged[-1]
    return merged


def header_filter(side: str, how: str, header: Mapping[str, str] | str) -> JsonObject:
    """Return a filter that changes one header.

    Args:
        side: `request` or `response`.
        how: `set`, `add` or `remove`.
        header: name and value, or the name of the header to remove.
    """
    return {"type": f"{side.capitalize()}HeaderModifier", f"{side}HeaderModifier": {how: [header]}}


def as_body(item: RouteFilter) -> JsonObject:
    """Return a filter as the API server stores it, without unset fields."""
    body: JsonObject = _without_empty(msgspec.to_builtins(item))
    return body


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        inner = ((name, child, _without_empty(child)) for name, child in value.items())
        # An empty path removes the prefix, and an empty object was set by the user; an empty list means none.
        return {name: kept for name, child, kept in inner if child is not None and kept not in ([], ())}
    return [_without_empty(item) for item in value] if isinstance(value, list | tuple) else value


def _merged_modifier(users: Body, own: Body) -> JsonObject:
    own_names = {name.lower() for name in _names(own)}
    merged = {how: [one for one in users.get(how, ()) if _name(one).lower() not in own_names] for how in users}
    for how, headers in own.items():
        merged[how] = [*merged.get(how, ()), *headers]
    return {how: headers for how, headers in merged.items() if headers}


def _names(modifier: Body) -> Iterator[str]:
    return map(_name, chain.from_iterable(modifier.values()))


def _name(header: Mapping[str, str] | str) -> str:
    return header if isinstance(header, str) else header["name"]
