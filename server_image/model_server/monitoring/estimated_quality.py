"""How good a classifier is while nobody sends labels: estimated from its probabilities, and whether to trust that.

`monitor.py` calls it where `MODEL_SERVER_ESTIMATED_QUALITY` is set. The package's `calibration` says how often such
probabilities were right; `estimates.py` has the sums. An estimate holds while inputs are like those of the calibration:
once a feature has drifted, or where the package has no calibration, it says that it is not to be trusted, and why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_server.domain.calibration import Calibration, confidences
from model_server.domain.model import LoadedModel
from model_server.domain.tensors import Outputs
from model_server.errors import ReferenceProfileMismatch, ReferenceProfileMissing, SettingsInvalid
from model_server.monitoring.estimates import Estimate, Sums, estimated_accuracy, estimated_binary
from model_server.shared_values import SharedValues
from model_server.telemetry import LABELS, Telemetry

#: Rows after which a window starts anew. There are two, half a length apart: one has at least half of them.
LENGTH = 5_000
#: Below this an interval is too wide to say anything, and drift is not yet looked for.
FEWEST_ROWS = 200
_WINDOWS = 2
#: Of each window: its rows, and the sums of answers of both kinds.
_SUMS = 6
#: Why an estimate is not to be trusted; `docs/wire.md` and the operator know these words.
NOT_CALIBRATED, INPUTS_DRIFTED, FEW_ROWS = PROBLEMS = ("NotCalibrated", "InputsDrifted", "FewRows")


class EstimatedQuality(Collector):
    """Sums calibrated probabilities and shows the metrics that they let expect.

    Raises:
        SettingsInvalid: the model is no classifier, or has no probabilities, or does not tell of which class they are.
        ReferenceProfileMissing: nothing says whether inputs are still like those of the training data.
        ReferenceProfileMismatch: the calibration is that of a model of other classes.
    """

    def __init__(self, loaded: LoadedModel, telemetry: Telemetry) -> None:
        _require_probabilities(loaded)
        self._calibration = _calibration_of(loaded)
        self._telemetry = telemetry
        self._output = loaded.model.probability_output
        self._classes = loaded.model.classes
        self._windows = _Windows(telemetry.values)
        self._drifted: tuple[str, ...] = ()
        telemetry.registry.register(self)

    def update(self, batches: Sequence[Outputs], drifted: Collection[str]) -> None:
        """Count some answers; `drifted` are the features whose distribution is another than the profile's."""
        self._drifted = tuple(drifted)
        calibration = self._calibration
        seen = [outputs for outputs in batches if self._output in outputs]
        if calibration is None or not seen:
            return
        answers = np.concatenate([next(iter(outputs.values())) for outputs in seen])
        probabilities = np.concatenate([outputs[self._output] for outputs in seen])
        right = calibration.right(answers, confidences(answers, probabilities, self._classes))
        if len(self._classes) == 2:
            is_positive = answers == self._classes[1]
            self._windows.add(Sums.of(right[is_positive]), Sums.of(right[~is_positive]))
        else:
            self._windows.add(Sums.of(right), Sums())

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the estimate is not to be trusted; empty while it is."""
        if self._calibration is None:
            return (NOT_CALIBRATED,)
        if sum(part.rows for part in self._windows.longest()) < FEWEST_ROWS:
            return (FEW_ROWS,)
        return (INPUTS_DRIFTED,) if self._drifted else ()

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The metrics by name; empty without a calibration and while there are few rows."""
        positive, negative = self._windows.longest()
        if self._calibration is None or positive.rows + negative.rows < FEWEST_ROWS:
            return {}
        if len(self._classes) == 2:
            return estimated_binary(positive, negative, self._calibration)
        return estimated_accuracy(positive, self._calibration)

    def collect(self) -> Iterable[Metric]:
        labels = self._telemetry.identity.labels
        estimates = self.estimates
        for name, text in _TEXTS.items():
            family = GaugeMetricFamily(f"modeldeploy_estimated_quality{name}", text, labels=(*LABELS, "metric"))
            for metric, estimate in estimates.items():
                family.add_metric((*labels, metric), getattr(estimate, name.strip("_") or "value"))
            yield family
        rows = GaugeMetricFamily("modeldeploy_estimated_rows", "Answers that the estimate is made of.", labels=LABELS)
        rows.add_metric(labels, sum(part.rows for part in self._windows.longest()))
        yield rows
        problems = self.problems
        trusted = GaugeMetricFamily(
            "modeldeploy_estimate_trusted", "1 while the estimated quality may be trusted.", labels=LABELS
        )
        trusted.add_metric(labels, float(not problems))
        yield trusted
        problem = GaugeMetricFamily(
            "modeldeploy_estimate_problem", "1 for the reason why it may not.", labels=(*LABELS, "reason")
        )
        for reason in PROBLEMS:
            problem.add_metric((*labels, reason), float(reason in problems))
        yield problem


_TEXTS = {
    "": "Quality that the calibrated probabilities of recent answers let expect, without labels.",
    "_low": "Lower end of the interval that it is in with 95 %.",
    "_high": "Upper end of the interval that it is in with 95 %.",
}


class _Windows:
    """Sums of recent answers in the memory that workers share; each worker starts its own windows anew.

    What decides that is the number of rows and never what they say.
    """

    def __init__(self, values: SharedValues) -> None:
        self._values = values
        self._places = [values.declare(_SUMS).first for _ in range(_WINDOWS)]
        # The second starts half a length before the first, so that one of them always holds many rows.
        self._rows = [0.0, LENGTH / 2]

    def add(self, positive: Sums, negative: Sums) -> None:
        """Add sums to both windows."""
        added = (*_numbers(positive), *_numbers(negative))
        own = self._values.own
        for window, first in enumerate(self._places):
            if self._rows[window] >= LENGTH:
                self._rows[window] = 0.0
                for place in range(first, first + _SUMS):
                    own[place] = 0.0
            self._rows[window] += positive.rows + negative.rows
            for place, number in enumerate(added):
                own[first + place] += number

    def longest(self) -> tuple[Sums, Sums]:
        """The sums over all workers of the window with more rows."""
        found = [[self._values.sum(first + place) for place in range(_SUMS)] for first in self._places]
        most = max(found, key=lambda sums: sums[0] + sums[3])
        return Sums(*most[:3]), Sums(*most[3:])


def _numbers(sums: Sums) -> tuple[float, float, float]:
    return sums.rows, sums.right, sums.variance


def _require_probabilities(loaded: LoadedModel) -> None:
    if loaded.answers_numbers:
        why = "MODEL_SERVER_ESTIMATED_QUALITY estimates the quality of classifiers, and the model answers numbers"
    elif not loaded.model.probability_output:
        why = "MODEL_SERVER_ESTIMATED_QUALITY needs probabilities, and the model gives none"
    elif len(loaded.model.classes) < 2:
        raise SettingsInvalid(
            "MODEL_SERVER_ESTIMATED_QUALITY needs to know of which class a probability is, and the model does not tell",
            hint="List the classes in model.yaml, as categories of the first of output_features, in the order of the"
            " probabilities.",
        )
    else:
        return
    raise SettingsInvalid(why, hint="Leave monitoring.estimatedQuality out; send labels to /feedback.")


def _calibration_of(loaded: LoadedModel) -> Calibration | None:
    if not loaded.metadata.reference_profile:
        raise ReferenceProfileMissing(
            "estimated quality is asked for, and the package has no reference_profile to tell whether its inputs drift",
            hint="Write it with `modeldeploy package FOLDER --sample FILE --holdout FILE --target COLUMN`, or leave"
            " monitoring.estimatedQuality out.",
        )
    calibration = loaded.metadata.calibration
    if calibration is None:
        return None
    given, own = (", ".join(map(str, classes)) for classes in (calibration.classes, loaded.model.classes))
    if given != own:
        raise ReferenceProfileMismatch(
            f"the calibration in model.yaml is of the classes {given}, and the model has {own}",
            hint="Calibrate this model: `modeldeploy package FOLDER --holdout FILE --target COLUMN --force`.",
        )
    return calibration
