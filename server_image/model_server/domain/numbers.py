"""What the numbers mean that a model answers in place of classes; runtimes say it, `runtimes/classified.py` uses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: The largest of several names the class. Of two classes there may be one number: the probability of the second, or its
#: score, which is positive for the second. `places` are the numbers of classes, from 0. `unknown` is any other scale.
NumberKind = Literal["probabilities", "scores", "places", "unknown"]


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a model answers to a row. `count` is how many numbers, or for `places` how many there are to choose from."""

    kind: NumberKind
    count: int

    def tells(self, classes: Sequence[object]) -> bool:
        """Whether these numbers tell which of the classes a row has."""
        if len(classes) < 2:
            return False
        if self.count == 1:
            return len(classes) == 2 and self.kind != "unknown"
        return self.count == len(classes)
