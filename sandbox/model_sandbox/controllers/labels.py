"""Objects found by labels without a look at all the others: a thousand Services with their pods stay cheap."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import combinations

from model_sandbox.cache import Cache, Index, Key, key_of
from model_sandbox.client import Obj

Labels = Mapping[str, str]


def labels_of(body: Obj) -> Labels:
    """The labels of an object."""
    return body["metadata"].get("labels") or {}


class Labelled:
    """The objects of a cache by their labels."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        # The empty pair is everybody's: whoever asks for no label at all finds them by it.
        self._index = Index(cache, lambda body: [(), *labels_of(body).items()])

    def having(self, namespace: str, labels: Labels) -> list[Obj]:
        """Those of a namespace that have all these labels."""
        smallest = min((self._index.keys(namespace, pair) for pair in ((), *labels.items())), key=len)
        found = (self._cache.objects[key] for key in smallest)
        return [body for body in found if labels.items() <= labels_of(body).items()]


class Selecting:
    """The objects of a cache by the labels that they select: `{}` is all that is there, None is nothing."""

    def __init__(self, cache: Cache, selected: Callable[[Obj], Labels | None]) -> None:
        self._sizes: set[int] = set()
        self._selected = selected
        self._index = Index(cache, self._mark)

    def _mark(self, body: Obj) -> Iterable[Hashable]:
        labels = self._selected(body)
        if labels is None:
            return []
        self._sizes.add(len(labels))
        return [tuple(sorted(labels.items()))]

    def keys(self, body: Obj) -> list[Key]:
        """The keys of those that select an object."""
        pairs, namespace = sorted(labels_of(body).items()), key_of(body)[0]
        marks = (some for size in self._sizes for some in combinations(pairs, size))
        return [key for mark in marks for key in self._index.keys(namespace, mark)]
