"""The name of a revision: a hash of the fields that change the pods, and of no other field."""

import hashlib
from collections.abc import Mapping, Sequence, Set
from typing import Any

import orjson

from model_operator.api.identity import as_written, canonical

#: Alphabet of the pod-template-hash of Kubernetes: without vowels, so that no hash spells a word.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_LENGTH = 8


def digest(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return eight letters that stand for a JSON value; key order does not matter."""
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    number = int.from_bytes(hashlib.sha256(text).digest()[:8])
    letters = []
    for _ in range(_LENGTH):
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return "".join(letters)


def revision_of(
    source: Mapping[str, Any], refresh: str = "", mark: str = "", *, existing: Set[str] = frozenset()
) -> str:
    """Name the revision of a spec's `revision_source`.

    Equal specs have equal names, independent of defaults and of the spelling of quantities (`api.identity`).

    Args:
        refresh: the token of the annotation `modeldeploy.dev/refresh`. Another value is another
            revision of the same spec, for artifacts that change behind an unchanged URI.
        mark: the same for a change that polling found (`status.source`).
        existing: revisions that the status names. The first release hashed specs as they were spelt; a revision
            that has its name from there keeps it.
    """
    extra = {name: value for name, value in (("refresh", refresh), ("mark", mark)) if value}
    name = digest({"source": canonical(source), **extra})
    if name in existing or not existing:
        return name
    old_name = digest({"source": as_written(source), **extra})
    return old_name if old_name in existing else name
