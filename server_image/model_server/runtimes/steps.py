"""Steps around the model: pre.py and post.py of a package, as one model with what they stand around.

`transform(inputs)` in pre.py gets the rows of a call and returns as many, as the model takes them;
`transform(outputs)` or `transform(outputs, inputs)` in post.py gets what the model answered, arrays by name, and
returns what clients see. Both run where the model is called, so that every protocol, batch and explanation has them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_server.domain.model import EmbeddingModel, InputAdapter, Model, Signature, StepTimes, StreamingModel
from model_server.domain.tensors import Inputs, Outputs, rows_of
from model_server.errors import InputRefused, StepFailed, first_line
from model_server.inputs.handover import Misfit, handed_over
from model_server.inputs.selection import adapter_of
from model_server.inputs.untyped import Untyped
from model_server.package.reader import PRE, Package
from model_server.runtimes.outputs import normalize_outputs
from model_server.runtimes.own_code import import_file, required_function, takes, where
from model_server.runtimes.step_inputs import Form, check_against, form_of

log = logging.getLogger(__name__)

_FUNCTION = "transform"
_PRE_SHAPE = "pre.py defines transform(inputs), which returns what the model takes, row for row."
_POST_SHAPE = "post.py defines transform(outputs) or transform(outputs, inputs), which returns the answer, row for row."


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The transform of one file; `name` is `pre` or `post`."""

    name: str
    path: Path
    function: Callable[..., Any]
    #: How it takes the inputs of the call; None where it does not.
    form: Form | None

    def failed(self, error: BaseException) -> StepFailed:
        """Its error, of which a client sees no more than whose it is: the text is the author's."""
        return StepFailed(self.name, f"{self.path.name} failed on this input", detail=where(error, self.path))

    def misfit(self, text: str) -> StepFailed:
        """The error for an answer that does not fit; its shapes and names are the package's, not those of a request."""
        return StepFailed(self.name, f"transform in {self.path.name} returned {text}")


def load_steps(package: Package) -> tuple[Step | None, Step | None]:
    """Import the package's pre.py and post.py. Raises LoadFailed or DependencyMissing."""
    pre: Step | None = None
    post: Step | None = None
    for path in package.steps:
        is_pre = path.name == PRE
        hint = _PRE_SHAPE if is_pre else _POST_SHAPE
        function = required_function(import_file(path, hint=hint), _FUNCTION, (1,) if is_pre else (1, 2), hint=hint)
        if is_pre:
            pre = Step(name="pre", path=path, function=function, form=form_of(function, 0, path))
        else:
            form = form_of(function, 1, path) if takes(function, 2) else None
            post = Step(name="post", path=path, function=function, form=form)
    return pre, post


def with_steps(package: Package, model: Model, adapter: InputAdapter) -> tuple[Stepped, InputAdapter]:
    """The model with the package's steps around it, and the adapter of what goes into the first one.

    `adapter` is the model's own. Raises LoadFailed, DependencyMissing or MetadataInvalid.
    """
    pre, post = load_steps(package)
    own = adapter
    if pre is not None and pre.form is not None:
        features = package.metadata.input_features or pre.form.features
        check_against(pre.form, features, pre.path)
        if not features:
            log.warning(
                "pre.py is given what is sent: its inputs have no types. List input_features in model.yaml, or"
                " annotate transform with list[...] of a class"
            )
        own = adapter_of(features) if features else Untyped()
    parts = Parts(pre=pre, post=post, model=model, model_adapter=adapter, adapter=own)
    if isinstance(model, StreamingModel):
        return SteppedStream(parts, model), own
    if isinstance(model, EmbeddingModel) and post is None:
        return SteppedEmbeddings(parts, model), own
    return Stepped(parts), own


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A model, its steps, and the adapters of the model and of the first step."""

    pre: Step | None
    post: Step | None
    model: Model
    model_adapter: InputAdapter
    adapter: InputAdapter


class Stepped:
    """Calls pre.py, the model, and post.py; a SteppedModel."""

    # Code of the package may wait for anything, so it never runs on the event loop.
    runs_inline = False

    def __init__(self, parts: Parts) -> None:
        model = parts.model
        self.signature = Signature(features=parts.adapter.features) if parts.pre else model.signature
        self.classes = model.classes
        self.probability_output = model.probability_output
        self.score_output = str(getattr(model, "score_output", ""))
        self.steps = [name for name, part in (("pre", parts.pre), ("model", model), ("post", parts.post)) if part]
        self._parts = parts
        self._times: dict[str, float] = {}

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        """The answer to rows of the first step. Raises InputRefused, or StepFailed."""
        parts = self._parts
        kept = _copied(inputs) if parts.pre is not None and parts.post is not None and parts.post.form else inputs
        began = time.perf_counter()
        given = self._before(inputs)
        called = time.perf_counter()
        # What post.py sees does not depend on what a client asks for.
        asks = probabilities or (parts.post is not None and bool(self._rated))
        outputs = parts.model.predict(given, probabilities=asks)
        ended = time.perf_counter()
        if parts.pre is not None:
            self._add("pre", called - began)
        self._add("model", ended - called)
        if parts.post is None:
            return outputs
        answer = self._after(outputs, kept)
        self._add("post", time.perf_counter() - ended)
        hidden = () if probabilities else (self.probability_output, self.score_output)
        return {name: array for name, array in answer.items() if name not in hidden}

    def take_times(self) -> StepTimes:
        """The seconds in each part since this was last called."""
        times, self._times = self._times, {}
        return times

    def settle(self, outputs: Outputs) -> None:
        """Keep of the model's probabilities, scores and classes what is still there behind post.py.

        `outputs` is an answer to a row with all that can be asked for, {} where there was no such row.
        """
        if self._parts.post is None:
            return
        classes = self._parts.model.classes
        others = dict(list(outputs.items())[1:])
        rated = others.get(self.probability_output)
        if rated is None or rated.ndim != 2 or rated.dtype.kind != "f":
            self.probability_output = ""
        if self.score_output not in others:
            self.score_output = ""
        labels = next(iter(outputs.values()), None)
        same = labels is not None and labels.ndim == 1 and all(label in classes for label in labels.tolist())
        self.classes = classes if same else ()

    @property
    def _rated(self) -> str:
        model = self._parts.model
        return model.probability_output or str(getattr(model, "score_output", ""))

    def _add(self, name: str, seconds: float) -> None:
        self._times[name] = self._times.get(name, 0.0) + seconds

    def _before(self, inputs: Inputs) -> Inputs:
        pre = self._parts.pre
        if pre is None or pre.form is None:
            return inputs
        try:
            answer = pre.function(pre.form.argument(inputs, self._parts.adapter))
        except ValueError as error:
            # As for a model: Python's word for values that a function cannot take.
            raise InputRefused.at("", f"pre.py refused this input: {first_line(error, most=300)}") from error
        except (Exception, SystemExit) as error:
            raise pre.failed(error) from error
        try:
            arrays = normalize_outputs(_columns_of(answer), name="inputs", by="transform in pre.py")
            return handed_over(arrays, self._parts.model_adapter, rows_of(inputs))
        except Misfit as misfit:
            raise pre.misfit(str(misfit)) from None
        except TypeError as error:
            raise StepFailed(pre.name, str(error)) from None

    def _after(self, outputs: Outputs, inputs: Inputs) -> Outputs:
        post = self._parts.post
        if post is None:
            return outputs
        arguments: list[Any] = [dict(outputs)]
        try:
            if post.form is not None:
                arguments.append(post.form.argument(inputs, self._parts.adapter))
            answer = post.function(*arguments)
        except (Exception, SystemExit) as error:
            raise post.failed(error) from error
        try:
            arrays = normalize_outputs(answer, name=next(iter(outputs)), by="transform in post.py")
        except TypeError as error:
            raise StepFailed(post.name, str(error)) from None
        rows = rows_of(inputs)
        for name, array in arrays.items():
            if len(array) != rows:
                raise post.misfit(f"{len(array)} rows in {name!r} for {rows}")
        return arrays


class SteppedStream(Stepped):
    """The steps around a model that answers in steps of its own: post.py is called for each of them."""

    def __init__(self, parts: Parts, model: StreamingModel) -> None:
        super().__init__(parts)
        self._model = model

    def stream(self, inputs: Inputs) -> Iterator[Outputs]:
        """The steps of the answer."""
        kept = _copied(inputs)
        for outputs in self._model.stream(self._before(inputs)):
            yield self._after(outputs, kept)


class SteppedEmbeddings(Stepped):
    """A pre.py before a model of embeddings."""

    def __init__(self, parts: Parts, model: EmbeddingModel) -> None:
        super().__init__(parts)
        self.token_output = model.token_output
        self.count_tokens = model.count_tokens


def _columns_of(answer: Any) -> Any:
    """Rows that are dicts as columns by name: what their first row has, each row has."""
    if not isinstance(answer, list) or not answer or not all(isinstance(row, dict) for row in answer):
        return answer
    names = list(answer[0])
    other = next((row for row in answer if list(row) != names), None)
    if other is not None:
        raise Misfit(f"a row with {', '.join(map(str, other))} behind one with {', '.join(map(str, names))}")
    return {name: [row[name] for row in answer] for name in names}


def _copied(inputs: Inputs) -> Inputs:
    return {name: array.copy() for name, array in inputs.items()}
