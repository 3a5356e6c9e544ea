"""The page of phases, conditions, reasons and Events, from `generators.reasons`. Used by `docs/generate.py`."""

from pathlib import Path

from generators import reasons
from generators.reasons import Reasons
from generators.tables import table

_INTRO = """\
# Events, conditions and reasons

This page is made by `make docs`; a test proves that it has every reason that the operator writes. `kubectl describe
mdep NAME` shows conditions and Events, `kubectl modeldeploy history NAME` shows the history. `promote`, `abort`,
`retry`, `undo` and `resume` under "what to do" are commands of [the plugin](../cli.md). [At three in the
morning](../how-to/three-in-the-morning.md) leads from a symptom to its cause."""


def page(_root: Path) -> str:
    """The page as Markdown."""
    parts = [
        _INTRO,
        section("Phases", "`status.phase`.", reasons.PHASES, "phase"),
        section("Reasons of a pause", "`status.pauseConditions[].reason`.", reasons.PAUSES),
        section("Reasons of a rollback", "`status.rollback.reason`.", reasons.ROLLBACKS),
        section("Failures of pods", "`status.podFailures[].reason`.", reasons.PODS),
        section("Reasons of a refused spec", "In the conditions `Ready` and `Stalled`.", reasons.REFUSALS),
        section("Results in the history", "`status.history[].result`.", reasons.RESULTS, "result"),
        section("Reasons in the history", "`status.history[].reason`.", reasons.HISTORY),
        "## Conditions\n\n`status.conditions[]`. Each type: what it says when its status is True, and its reasons.",
        *(section(f"`{type_}`", says, rows, level=3) for type_, (says, rows) in reasons.CONDITIONS.items()),
        "## Events\n\nThey are about the ModelDeployment, unless the meaning names another object.",
        section("Events of type Normal", "The normal course of a rollout.", reasons.NORMAL_EVENTS, level=3),
        section("Events of type Warning", "Something failed, or needs attention.", reasons.WARNING_EVENTS, level=3),
    ]
    return "\n\n".join(parts) + "\n"


def section(title: str, words: str, rows: Reasons, column: str = "reason", *, level: int = 2) -> str:
    """A heading, a sentence, and a table of reasons. `docs/generators/reference.py` has some too."""
    cells = [(_shown(reason), meaning, action) for reason, (meaning, action) in rows.items()]
    return f"{'#' * level} {title}\n\n{words}\n\n{table((column, 'meaning', 'what to do'), cells)}"


def _shown(reason: str) -> str:
    return f"`{reason}`" if reason.isalnum() else reason
