"""Two looks at the pods of one model that are some minutes apart, of all that were taken. PURE."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from modeldeploy.fleet.usage import Look

#: Seconds: the first of the two looks is as old as this, and up to twice as old.
SECONDS = 300.0

Looks = Mapping[str, Look]


@dataclass(slots=True)
class Window:
    """The last look, an older one to count from, and one in between that takes its place."""

    first: Looks = field(default_factory=dict)
    last: Looks = field(default_factory=dict)
    _middle: Looks = field(default_factory=dict)

    def add(self, looks: Looks) -> None:
        """Take what the pods said now."""
        self.last = looks
        if _age(self._middle, looks) >= SECONDS or not self._middle:
            self.first, self._middle = self._middle or looks, looks


def _age(before: Looks, now: Looks) -> float:
    """Return the seconds between two looks; 0 where one of them saw nothing."""
    return max((one.at for one in now.values()), default=0.0) - max((one.at for one in before.values()), default=0.0)
