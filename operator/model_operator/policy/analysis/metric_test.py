"""What every kind of metric provides: one class a kind, which `registry` lists.

A test is a metric with the evidence at which it decides; it holds no data. What it has gathered is a `MetricState`, an
immutable value that goes in and comes out. How evidence reaches a test is said by what it inherits: counters of the
pods (`CountedTest`), answers of a metric provider (`QueriedTest`), predictions of both revisions (`PairedTest`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from model_operator.api.analysis import Metric, MetricSource
from model_operator.api.shadow import Prediction
from model_operator.api.sums import SumStats
from model_operator.observation.values import MetricState, Outcome

Body = Mapping[str, Any]
#: What the canary and stable answered to one request.
Pair = tuple[Prediction, Prediction]

StateT = TypeVar("StateT", bound=MetricState)
CountsT = TypeVar("CountsT", bound="IntervalCounts")


class Counters(Protocol):
    """Counters since a server's process began (`ports.PodSample`)."""

    @property
    def requests(self) -> int:
        """Answered predictions."""

    @property
    def errors(self) -> int:
        """Predictions that were answered with 5xx."""

    @property
    def assigned(self) -> int:
        """Users of an A/B test whom a router assigned to the revision."""

    @property
    def durations(self) -> Mapping[float, int]:
        """Predictions that took at most so many seconds, by the histogram's bucket edges (inf is one)."""

    @property
    def outputs(self) -> Mapping[str, float]:
        """Predictions by class or bucket."""

    @property
    def quality(self) -> Mapping[str, SumStats]:
        """Labelled answers, by metric."""


class IntervalCounts(Protocol):
    """What one interval counted for one metric; its type without arguments is that of nothing."""

    def __add__(self, other: Self, /) -> Self:
        """Return both together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One number to fetch from a provider about one revision."""

    source: MetricSource
    revision: str


@dataclass(frozen=True, slots=True)
class MetricTest(ABC, Generic[StateT]):
    """How one metric is judged; `fail_at` is 1/alpha of this metric's share of alpha."""

    #: Whether the metric takes a share of the alpha of its analysis.
    shares_alpha: ClassVar[bool] = True

    metric: Metric
    fail_at: float

    @property
    @abstractmethod
    def can_pass(self) -> bool:
        """Whether promotion waits for this metric: for its proof, or for a first value within bounds."""

    @abstractmethod
    def start(self) -> StateT:
        """Return the state without any evidence."""

    @abstractmethod
    def verdict(self, state: StateT) -> Outcome:
        """Return the outcome on what has been gathered."""

    @abstractmethod
    def message(self, state: StateT) -> str:
        """Return the numbers that decide, in one line that begins with the metric's name."""

    @abstractmethod
    def to_status(self, state: StateT) -> dict[str, Any]:
        """Return the numbers for an entry of `status.analysis.metrics`, and what `from_status` needs."""

    @abstractmethod
    def from_status(self, entry: Body) -> StateT:
        """Read back what `to_status` wrote, to the last bit."""


class CountedTest(MetricTest[StateT], Generic[StateT, CountsT]):
    """A test on counters of the pods, taken interval by interval."""

    __slots__ = ()

    @abstractmethod
    def count(self, state: StateT, before: Counters, after: Counters, *, is_canary: bool) -> CountsT | None:
        """Return what one server counted between two samples; None while the metric cannot be counted."""

    @abstractmethod
    def update(self, state: StateT, counts: CountsT) -> StateT:
        """Return the state with one more closed interval."""

    def calibrate(self, state: StateT, stable: Mapping[float, int]) -> StateT:
        """Return the state after a look at the histogram of stable's durations, which may set a threshold."""
        return state


class QueriedTest(MetricTest[StateT]):
    """A test on numbers that a metric provider has. Its state is a `ProviderState`."""

    __slots__ = ()

    @abstractmethod
    def queries(self, canary: str, stable: str) -> Sequence[Query]:
        """Return what to ask about the two revisions, once in each interval; nothing where feedback is counted."""

    @abstractmethod
    def apply_answer(self, state: StateT, values: Sequence[float | None]) -> StateT:
        """Return the state after the answers to `queries`, in their order; None is an answer without a number.

        Raises:
            InvalidSpec: the spec has a condition that cannot be read.
        """


class PairedTest(MetricTest[StateT]):
    """A test on what both revisions answered to the same requests. Its state is a `ProviderState`."""

    __slots__ = ()

    @abstractmethod
    def apply_pairs(self, state: StateT, pairs: Sequence[Pair]) -> StateT:
        """Return the state with the pairs of one more poll."""
