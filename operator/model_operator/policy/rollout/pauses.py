"""The reasons of a pause: one CamelCase word, one sentence for users, and the way in which the pause ends."""

from enum import StrEnum


class PauseReason(StrEnum):
    """A reason in `status.pauseConditions`."""

    PAUSE_STEP = "PauseStep"
    ROUTE_NOT_PROGRAMMED = "RouteNotProgrammed"
    ANALYSIS_INCONCLUSIVE = "AnalysisInconclusive"
    REPLAY_INCONCLUSIVE = "ReplayInconclusive"
    NO_DIFFERENCE = "NoDifference"
    SAMPLE_RATIO_MISMATCH = "SampleRatioMismatch"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    USER_PAUSED = "UserPaused"
    ROUTER_MISSING = "RouterMissing"
    PROVIDER_UNAVAILABLE = "ProviderUnavailable"
    EVALUATION_ERROR = "EvaluationError"
    GATE = "Gate"

    @classmethod
    def _missing_(cls, value: object) -> "PauseReason":
        """Treat an unknown reason of another release as one that a user ends."""
        return cls.PAUSE_STEP

    @property
    def ends_with_its_cause(self) -> bool:
        """Whether the rollout resumes automatically when the cause is gone; otherwise a user promotes or aborts."""
        return self in _ENDED_BY_CAUSE

    @property
    def waits_for_a_gate(self) -> bool:
        """Whether a gate ends the pause."""
        return self is PauseReason.GATE

    @property
    def is_manual(self) -> bool:
        """Whether only a user ends the pause, so that `maxPauseDuration` counts."""
        return not self.ends_with_its_cause and not self.waits_for_a_gate

    @property
    def sentence(self) -> str:
        """Sentence for users, if the pause itself has no message."""
        return _SENTENCES.get(self, str(self))


_ENDED_BY_CAUSE = frozenset(
    {
        PauseReason.USER_PAUSED,
        PauseReason.ROUTER_MISSING,
        PauseReason.PROVIDER_UNAVAILABLE,
        PauseReason.EVALUATION_ERROR,
    }
)
_SENTENCES = {
    PauseReason.USER_PAUSED: "spec.paused is true",
    PauseReason.PROVIDER_UNAVAILABLE: "a metric provider does not respond",
    PauseReason.ANALYSIS_INCONCLUSIVE: "the analysis is undecided; promote or abort",
    PauseReason.REPLAY_INCONCLUSIVE: "the replay is undecided; promote or abort",
    PauseReason.NO_DIFFERENCE: "the A/B test has no winner; promote or abort",
    PauseReason.SAMPLE_RATIO_MISMATCH: (
        "the A/B test has no verdict; fix the split and start again, or promote or abort"
    ),
    PauseReason.PROGRESS_DEADLINE_EXCEEDED: "the pods were not ready in time; promote to wait for them again, or abort",
}
