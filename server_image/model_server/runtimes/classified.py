"""A model that answers numbers, as the classifier that `output_features` in model.yaml calls it; `loader.py` asks.

Boosters, Keras and many ONNX graphs give probabilities and know no classes. Where the package lists the classes, the
answer is one of them, and the numbers are what they are for other classifiers: probabilities or scores, when asked for.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from model_server.domain.features import Metadata
from model_server.domain.model import Model
from model_server.domain.numbers import Numbers
from model_server.domain.tensors import Array, Inputs, Outputs
from model_server.runtimes.explaining.direct import DirectExplainer

log = logging.getLogger(__name__)

_LABEL = "predict"
_WORDS = {"probabilities": "probabilities", "scores": "scores", "places": "classes", "unknown": "numbers a row"}
#: The names of the numbers where the model's own is taken by the label: scikit-learn's.
_PROBABILITIES, _SCORES = "predict_proba", "decision_function"


def classified(model: Model, metadata: Metadata) -> Model:
    """The model as a classifier of the classes in model.yaml; unchanged where it has its own, or none are listed."""
    numbers: Numbers | None = getattr(model, "numbers", None)
    classes = (metadata.output_features[0].categories or ()) if metadata.output_features else ()
    if numbers is None or not classes or model.classes:
        return model
    if not numbers.tells(classes):
        log.warning(
            "model.yaml lists %d classes, which the model's answer (%d %s) does not tell: it stays as it is."
            " Correct the categories of output_features, or answer with a class in post.py",
            *(len(classes), numbers.count, _WORDS[numbers.kind]),
        )
        return model
    return Classified(model, numbers, classes)


def warn_of_numbers(metadata: Metadata, outputs: Outputs) -> None:
    """Warn where model.yaml says that the model answers texts, and `outputs`, which it gave at load, are numbers."""
    for place, feature in enumerate(metadata.output_features):
        array = outputs.get(feature.name, next(iter(outputs.values()), None) if place == 0 else None)
        if feature.dtype == "string" and array is not None and array.dtype.kind in "biuf":
            classes = "" if feature.categories else ", or list the classes as categories if the numbers rate them"
            log.warning(
                "model.yaml: output_features call %s a string, and the model answers numbers (%s): they stay so."
                " Write dtype: %s%s; or give texts in post.py",
                *(feature.name, array.dtype.name, array.dtype.name, classes),
            )


class Classified:
    """Calls a model of numbers, and gives the class that they tell."""

    def __init__(self, model: Model, numbers: Numbers, classes: tuple[object, ...]) -> None:
        self.signature = model.signature
        self.runs_inline = model.runs_inline
        self.classes = classes
        self._model, self._numbers = model, numbers
        self._labels = np.array(classes)
        is_probability = numbers.kind == "probabilities"
        own = getattr(model, "output_name", _LABEL)
        # Whoever asks for the model's own output by its name gets what it always was.
        name = own if own != _LABEL else _PROBABILITIES if is_probability else _SCORES
        self._rated = "" if numbers.kind == "places" else name
        self.probability_output = name if is_probability else ""
        self.score_output = "" if is_probability else self._rated

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        """The class of each row; with `probabilities` also the numbers that told it."""
        values = next(iter(self._model.predict(inputs, probabilities=False).values()))
        values = values.reshape(len(values), -1)
        if self._numbers.kind == "probabilities" and values.shape[1] == 1:
            values = np.hstack([1 - values, values])
        outputs = {_LABEL: self._labels[self._places(values)]}
        if probabilities and self._rated:
            outputs[self._rated] = values[:, 0] if values.shape[1] == 1 else values
        return outputs

    def _places(self, values: Array) -> Array:
        if self._numbers.kind == "places":
            return values[:, 0].astype(int)
        found: Array = (values[:, 0] > 0).astype(int) if values.shape[1] == 1 else values.argmax(axis=1)
        return found

    def explainer(self) -> DirectExplainer | None:
        """The model's own explainer, which tells by class."""
        own = getattr(self._model, "explainer", None)
        explainer: DirectExplainer | None = None if own is None else own()
        if explainer is None:
            return None
        shown = self.classes[1:] if len(self.classes) == 2 and self._numbers.count == 1 else self.classes
        return replace(explainer, kind=replace(explainer.kind, classes=shown))
