"""Quality by group while the model serves: predictions and labelled answers by the values of some attributes.

`monitor.py` calls it where `MODEL_SERVER_SLICES` names attributes: input features, or keys of the object `groups` of
`POST /feedback`. What is counted is bounded: by slice as many groups as it may have, the rest are `other`.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from model_server.domain.features import Feature
from model_server.domain.model import LoadedModel
from model_server.domain.tensors import Inputs, Outputs
from model_server.errors import InvalidInput, SettingsInvalid
from model_server.monitoring.drift import Bins, find_reference
from model_server.telemetry import LABELS, Telemetry

MOST_SLICES = 4
MOST_GROUPS = 32
DEFAULT_GROUPS = 8
OTHER, MISSING = "other", "missing"
#: A longer value is no group of its own: a label of a metric is kept as long as the server runs.
_LONGEST = 64
_MOST_ROWS = 1_000

#: The group of each row of a request, by slice.
Groups: TypeAlias = Mapping[str, Sequence[str]]


class Slices(Collector):
    """Counts by slice and group; of two classes the second is the positive one."""

    def __init__(self, settings: Sequence[str], loaded: LoadedModel, telemetry: Telemetry) -> None:
        """Prepare.

        Args:
            settings: `name` or `name:groups`, as in `sex:8`.

        Raises:
            SettingsInvalid: the model answers numbers, or a slice cannot be told apart.
        """
        if settings and loaded.answers_numbers:
            raise SettingsInvalid(
                "MODEL_SERVER_SLICES tells the answers of classifiers apart, and the model answers numbers",
                hint="Leave monitoring.slices out.",
            )
        self._telemetry = telemetry
        classes = loaded.class_labels
        self._positive = classes[1] if len(classes) == 2 else None
        features = {feature.name: (place, feature) for place, feature in enumerate(loaded.adapter.features)}
        profile = find_reference("package", loaded.metadata) if settings else {}
        bins = profile if isinstance(profile, Mapping) else {}
        self._slices: dict[str, _Slice] = {}
        self._places: dict[str, int] = {}
        for name, most in map(slice_of, settings):
            group_of: Callable[[Any], str] = group_text
            if name in features:
                self._places[name], feature = features[name]
                group_of = _grouping(feature, bins.get(name))
            self._slices[name] = _Slice(most, group_of)
        if settings:
            telemetry.registry.register(self)

    def __bool__(self) -> bool:
        """Whether anything is told apart."""
        return bool(self._slices)

    def groups_of(self, inputs: Inputs) -> Groups:
        """The groups of a request's rows, of the slices that are features; none for very many rows."""
        found: dict[str, Sequence[str]] = {}
        for name, place in self._places.items():
            column = inputs[name] if name in inputs else next(iter(inputs.values()))[:, place]
            if len(column) <= _MOST_ROWS:
                found[name] = [self._slices[name].group(value) for value in column.tolist()]
        return found

    def predicted(self, batches: Sequence[tuple[Inputs, Outputs]]) -> None:
        """Count what was predicted for each group."""
        if self._positive is None or not self._places:
            return
        for inputs, outputs in batches:
            answers = next(iter(outputs.values())).tolist()
            for name, groups in self.groups_of(inputs).items():
                for group, answer in zip(groups, answers, strict=False):
                    self._slices[name].count_prediction(group, is_positive=answer == self._positive)

    def check(self, groups: Any) -> Mapping[str, str]:
        """The groups that came with feedback. Raises InvalidInput that lists the slices."""
        if not isinstance(groups, Mapping):
            raise InvalidInput.at("groups", f'expected an object such as {{"sex": "f"}}, got {str(groups)[:64]!r}')
        found = {}
        for name, value in groups.items():
            if name not in self._slices:
                known = f"the slices are {', '.join(self._slices)}" if self._slices else "there are none: list it"
                raise InvalidInput.at("groups", f"{str(name)[:64]!r} is no slice; {known} in monitoring.slices")
            if isinstance(value, list | Mapping):
                raise InvalidInput.at(f"groups.{name}", "expected a text, a number, true, false or null")
            found[name] = self._slices[name].group(value)
        return found

    def labelled(self, pairs: Sequence[tuple[Any, Any]], remembered: Groups, sent: Mapping[str, str]) -> None:
        """Count labelled answers, pairs of prediction and label, by the groups sent along or else remembered."""
        for name, part in self._slices.items():
            groups = [sent[name]] * len(pairs) if name in sent else remembered.get(name, ())
            for group, (prediction, label) in zip(groups, pairs, strict=False):
                if self._positive is None:
                    part.count_answer(group, "any", "right" if prediction == label else "wrong")
                    continue
                part.count_answer(group, self._sign(label), self._sign(prediction))
                if name not in self._places:
                    # Nothing else tells the group of a prediction.
                    part.count_prediction(group, is_positive=prediction == self._positive)

    def collect(self) -> Iterable[Metric]:
        labels = self._telemetry.identity.labels
        answers = CounterMetricFamily(
            "modeldeploy_slice_answers",
            "Labelled answers by group; label is any and prediction right or wrong for more than two classes.",
            labels=(*LABELS, "slice", "group", "label", "prediction"),
        )
        predictions = CounterMetricFamily(
            "modeldeploy_slice_predictions",
            "Predictions by group, positive or negative.",
            labels=(*LABELS, "slice", "group", "prediction"),
        )
        for name, part in self._slices.items():
            for (group, label, prediction), count in list(part.answers.items()):
                answers.add_metric((*labels, name, group, label, prediction), count)
            for (group, prediction), count in list(part.predictions.items()):
                predictions.add_metric((*labels, name, group, prediction), count)
        yield answers
        yield predictions

    def _sign(self, value: Any) -> str:
        return "positive" if value == self._positive else "negative"


class _Slice:
    """The groups of one slice that were met, and their counts."""

    def __init__(self, most: int, group_of: Callable[[Any], str]) -> None:
        self._most, self._group_of = most, group_of
        self._known: set[str] = set()
        self.answers: dict[tuple[str, str, str], int] = {}
        self.predictions: dict[tuple[str, str], int] = {}

    def group(self, value: Any) -> str:
        """The group of a value; `other` beyond the most."""
        group = self._group_of(value)
        if group in self._known:
            return group
        if len(self._known) >= self._most or len(group) > _LONGEST:
            return OTHER
        self._known.add(group)
        return group

    def count_answer(self, group: str, label: str, prediction: str) -> None:
        key = group, label, prediction
        self.answers[key] = self.answers.get(key, 0) + 1

    def count_prediction(self, group: str, *, is_positive: bool) -> None:
        key = group, "positive" if is_positive else "negative"
        self.predictions[key] = self.predictions.get(key, 0) + 1


def slice_of(setting: str) -> tuple[str, int]:
    """Parse `name` or `name:groups`. Raises SettingsInvalid."""
    name, colon, number = setting.rpartition(":")
    if not colon:
        return setting, DEFAULT_GROUPS
    if not name or not number.isdigit() or not 2 <= int(number) <= MOST_GROUPS:
        raise SettingsInvalid(
            f"MODEL_SERVER_SLICES: {setting!r} is no slice", hint=f"Write name:groups, with 2 to {MOST_GROUPS} groups."
        )
    return name, int(number)


def group_text(value: Any) -> str:
    """One text for values that people take for the same group: 1, 1.0 and "1"; true and "True"."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    return text.lower() if text.lower() in ("true", "false") else text


def _grouping(feature: Feature, bins: Bins | None) -> Callable[[Any], str]:
    """How the values of a feature become groups: by category, or by the bins of the reference profile."""
    if bins is not None and bins.edges:
        inner = bins.edges[1:-1]
        names = _bin_names(inner)

        def group(value: Any) -> str:
            is_number = isinstance(value, int | float) and not math.isnan(value)
            return names[bisect_right(inner, value)] if is_number else MISSING

        return group
    if feature.is_numeric and bins is None and feature.categories is None:
        raise SettingsInvalid(
            f"the slice {feature.name!r} is a number of any size, which is no group",
            hint="List its categories in model.yaml, or give it a reference_profile, whose bins are then the groups.",
        )
    return group_text


def _bin_names(edges: Sequence[float]) -> list[str]:
    bounds = [f"{edge:g}" for edge in edges]
    if not bounds:
        return ["all"]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(bounds)]
    return [f"below {bounds[0]}", *between, f"{bounds[-1]} and above"]
