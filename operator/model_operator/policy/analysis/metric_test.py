"""Base classes of the metric tests: one class for each kind of metric, which `registry` lists.

A test is a metric with its decision threshold; it holds no data. Its data is a `MetricState`, an immutable value that
methods take and return. The base class defines the input of a test: counters of the pods (`CountedTest`), values of a
metric provider (`QueriedTest`), or predictions of both revisions (`PairedTest`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from model_operator.api.analysis import Metric, MetricSource
from model_operator.api.inputs import InputSample
from model_operator.api.shadow import Prediction
from model_operator.api.sums import SliceCounts, SumStats
from model_operator.observation.values import MetricState, Outcome

Body = Mapping[str, Any]
#: Predictions of the canary and of stable for one request.
Pair = tuple[Prediction, Prediction]

StateT = TypeVar("StateT", bound=MetricState)
CountsT = TypeVar("CountsT", bound="IntervalCounts")


class Counters(Protocol):
    """Counters since the start of a server's process (`ports.PodSample`)."""

    @property
    def requests(self) -> int:
        """Answered predictions."""

    @property
    def errors(self) -> int:
        """Predictions with a 5xx response."""

    @property
    def refusals(self) -> int | None:
        """Requests that the model, its schema or a limit refused; None of a server that does not count them."""

    @property
    def assigned(self) -> int:
        """Users of an A/B test that the router assigned to the revision."""

    @property
    def durations(self) -> Mapping[float, int]:
        """Cumulative number of predictions by the upper bound of the histogram bucket in seconds, including inf."""

    @property
    def outputs(self) -> Mapping[str, float]:
        """Predictions by class or bucket."""

    @property
    def quality(self) -> Mapping[str, SumStats]:
        """Labelled answers, by metric."""

    @property
    def inputs(self) -> InputSample | None:
        """Requests that were compared with the training data; None of a server that does not compare them."""

    @property
    def slices(self) -> Mapping[tuple[str, str], SliceCounts]:
        """Answers by slice and group."""


class IntervalCounts(Protocol):
    """Counts of one interval for one metric; an instance without arguments is the zero."""

    def __add__(self, other: Self, /) -> Self:
        """Return the sum of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One number to fetch from a provider about one revision."""

    source: MetricSource
    revision: str


@dataclass(frozen=True, slots=True)
class MetricTest(ABC, Generic[StateT]):
    """Test of one metric; `fail_at` is 1/alpha for this metric's share of alpha."""

    #: Whether the metric takes a share of the alpha of its analysis.
    shares_alpha: ClassVar[bool] = True

    metric: Metric
    fail_at: float

    @property
    @abstractmethod
    def can_pass(self) -> bool:
        """Whether the verdict Pass requires this metric: its proof, or a first value within bounds."""

    @abstractmethod
    def start(self) -> StateT:
        """Return the state without any evidence."""

    @abstractmethod
    def verdict(self, state: StateT) -> Outcome:
        """Return the outcome of the evidence so far."""

    def is_suspicious(self, state: StateT) -> bool:
        """Whether more intervals have to tell before the canary passes, also where the metric needs no proof."""
        return False

    @abstractmethod
    def message(self, state: StateT) -> str:
        """Return the deciding numbers in one line that begins with the metric's name."""

    @abstractmethod
    def to_status(self, state: StateT) -> dict[str, Any]:
        """Return the numbers for an entry of `status.analysis.metrics`, and the fields that `from_status` needs."""

    @abstractmethod
    def from_status(self, entry: Body) -> StateT:
        """Restore exactly the state that `to_status` wrote."""


class CountedTest(MetricTest[StateT], Generic[StateT, CountsT]):
    """A test of counters of the pods, interval by interval."""

    __slots__ = ()

    @abstractmethod
    def count(self, state: StateT, before: Counters, after: Counters, *, is_canary: bool) -> CountsT | None:
        """Return the counts of one server between two samples; None while the metric cannot be counted."""

    @abstractmethod
    def update(self, state: StateT, counts: CountsT) -> StateT:
        """Return the state with one more closed interval."""

    def calibrate(self, state: StateT, stable: Mapping[float, int]) -> StateT:
        """Return the state after calibration with the histogram of stable's durations, which may set a threshold."""
        return state


class QueriedTest(MetricTest[StateT]):
    """A test of values of a metric provider. Its state is a `ProviderState`."""

    __slots__ = ()

    @abstractmethod
    def queries(self, canary: str, stable: str) -> Sequence[Query]:
        """Return the queries for the two revisions, once in each interval; none if feedback is counted instead."""

    @abstractmethod
    def apply_answer(self, state: StateT, values: Sequence[float | None]) -> StateT:
        """Return the state after the results of `queries`, in their order; None is a result without a number.

        Raises:
            InvalidSpec: the spec has an invalid condition.
        """


class PairedTest(MetricTest[StateT]):
    """A test of the predictions of both revisions for the same requests. Its state is a `ProviderState`."""

    __slots__ = ()

    @abstractmethod
    def apply_pairs(self, state: StateT, pairs: Sequence[Pair]) -> StateT:
        """Return the state with the pairs of one more poll."""
