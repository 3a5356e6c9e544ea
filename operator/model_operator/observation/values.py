"""What the operator sees of one ModelDeployment, as frozen values; `engine.observe` fills them in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from model_operator.api.hooks import GateAnswer
from model_operator.api.json import Body
from model_operator.api.status import ModelInfo, ServerInfo
from model_operator.api.traffic import RouteView


@dataclass(frozen=True, slots=True, kw_only=True)
class PodProblem:
    """Why one pod does not serve.

    `is_permanent`: another start of the same revision cannot help, so nobody needs to wait.
    """

    reason: str
    message: str
    restarts: int = 0
    is_permanent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """The model as a revision's server reports it.

    `changed_fingerprint` is the fingerprint of another object at its storage URI, empty when there is none.
    """

    model: ModelInfo
    changed_fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionView:
    """One revision in the cluster.

    Attributes:
        desired: size of its Deployment, None without one.
        pods: all its pods that have not ended, also those that terminate.
        ready: pods that take requests.
        available: pods that have been ready for minReadySeconds.
        is_current: whether the Deployment's controller has observed its newest size.
        problems: why pods do not serve, or are not made.
        autoscaler: why the number of pods does not follow the load.
        ended: why pods ended whose objects are still there. They count for nothing.
        source: the part of the spec that it was made from, None when it was lost.
        changed_fingerprint: fingerprint of another object at its storage URI, empty when there is none.
        server: which image it has and would have today, None without a Deployment or its source.
    """

    revision: str
    desired: int | None = None
    pods: int = 0
    ready: int = 0
    available: int = 0
    is_current: bool = True
    problems: tuple[PodProblem, ...] = ()
    autoscaler: PodProblem | None = None
    ended: tuple[PodProblem, ...] = ()
    source: Body | None = None
    model: ModelInfo | None = None
    changed_fingerprint: str = ""
    server: ServerInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontView:
    """The front Service: whom it selects. `revision` is None while it selects all revisions."""

    exists: bool = False
    revision: str | None = None

    @property
    def selects_all_revisions(self) -> bool:
        """Whether pods of every revision take its requests."""
        return self.exists and self.revision is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests that stable and canary counted since the applied weight was programmed."""

    stable: int = 0
    canary: int = 0


class Outcome(StrEnum):
    """What an analysis says. Undecided is no failure, and no data is no evidence.

    The last two are words on an A/B test: it was decided, and nobody won; or the router did not split the users as
    told, so that nothing can be said.
    """

    PASS = "Pass"  # noqa: S105 -- a verdict, not a secret
    FAIL = "Fail"
    UNDECIDED = "Undecided"
    NO_DIFFERENCE = "NoDifference"
    SAMPLE_RATIO_MISMATCH = "SampleRatioMismatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainView:
    """Why the live model should be trained again, empty if it need not; and which request its hook has taken.

    `problem` is why it did not take one at the last try.
    """

    cause: str = ""
    notified: datetime | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricState:
    """What has been gathered about one metric; each kind of metric has a class of its own (`policy.analysis`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricResult:
    """The outcome of one metric, the numbers that decide it in one line, and the state that they come from.

    `problem` is the last error of its provider, and `problem_since` the time of the first one in a row.
    """

    name: str
    outcome: Outcome
    message: str
    state: MetricState
    problem: str = ""
    problem_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of an analysis, the numbers that decide it, and the result of each metric.

    `problem` are the last errors of metric providers, and `problem_since` the time of the first one in a row.
    """

    outcome: Outcome = Outcome.UNDECIDED
    message: str = ""
    metrics: tuple[MetricResult, ...] = ()
    problem: str = ""
    problem_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a Job measured on labelled data: `values` by name over `rows`, or the `error` that it ended with."""

    values: Mapping[str, float] = field(default_factory=dict)
    rows: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that a decision looks at besides spec, status and time.

    `measurements` has the evaluations that ended, by the name of their Job, `hindrances` what keeps others from it.
    `refusal` is what the API server has against an object of ours, empty when it took all of them.
    `missing_kinds` are those that the cluster does not know.
    """

    revisions: Mapping[str, RevisionView] = field(default_factory=dict)
    front: FrontView = field(default_factory=FrontView)
    route: RouteView = field(default_factory=RouteView)
    traffic: Traffic | None = None
    verdict: Verdict = field(default_factory=Verdict)
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    hindrances: Mapping[str, str] = field(default_factory=dict)
    gates: Mapping[str, GateAnswer] = field(default_factory=dict)
    retrain: RetrainView = field(default_factory=RetrainView)
    refusal: str = ""
    missing_kinds: frozenset[str] = frozenset()

    def revision(self, name: str) -> RevisionView:
        """Return what is seen of a revision; of an unknown one nothing is seen."""
        return self.revisions.get(name) or RevisionView(revision=name)
