"""Finds the model that ends its process: pure decisions about who was computing when a process ended.

Several models may have been computing, and one of them is at fault. All of them become suspects, and answer from now on
in a process of their own in which one computes at a time. When that ends, it is known who did it: that model is put
aside, and is not asked again until its entry in the list changes or somebody loads it by hand. The others are trusted
again after a number of answers.
"""

from __future__ import annotations

import enum
import signal
from dataclasses import dataclass, replace

#: Answers after which a suspect is trusted again.
PROBATION_ANSWERS = 20


class Standing(enum.StrEnum):
    """What is thought of a model."""

    TRUSTED = "trusted"
    SUSPECT = "suspect"
    ASIDE = "aside"


@dataclass(frozen=True, slots=True)
class Record:
    """A model's standing, the process ends at which it was computing, and its answers since the last."""

    standing: Standing = Standing.TRUSTED
    deaths: int = 0
    answers: int = 0
    reason: str = ""


def after_death(record: Record, *, is_alone: bool, how: str) -> Record:
    """Judge a model that was computing when its process ended; `is_alone`: nobody else can have been."""
    deaths = record.deaths + 1
    if is_alone and record.standing is Standing.SUSPECT:
        return Record(Standing.ASIDE, deaths, 0, f"it ended its process {_times(deaths)}, the last time by {how}")
    return Record(Standing.SUSPECT, deaths, 0, f"its process ended by {how}")


def after_answer(record: Record) -> Record:
    """Count an answer of a suspect."""
    if record.standing is not Standing.SUSPECT:
        return record
    if record.answers + 1 >= PROBATION_ANSWERS:
        return Record()
    return replace(record, answers=record.answers + 1)


def released(record: Record) -> Record:
    """Somebody asked for the model by hand: try it once more, alone."""
    return replace(record, standing=Standing.SUSPECT, answers=0) if record.standing is Standing.ASIDE else record


def how_it_ended(code: int) -> str:
    """`signal SIGSEGV` or `exit code 3`, from a return code of `subprocess`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _times(count: int) -> str:
    return "once" if count == 1 else "twice" if count == 2 else f"{count} times"
