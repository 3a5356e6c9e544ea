"""A loaded model and all that is known about it, and a request for its predictions.

The rest of the server speaks in these words: runtimes make a `Model`, inputs an `InputAdapter`, the loader a
`LoadedModel`, protocols an `InferenceRequest`, and the data plane answers it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from model_server.domain.explanations import Explainer
from model_server.domain.features import Feature, Metadata, Scalar
from model_server.domain.tensors import Array, Inputs, Outputs, Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which model answers: the labels of every metric, and what `modeldeploy_model_info` shows."""

    model: str
    version: str
    revision: str
    format: str = ""
    sha256: str = ""
    uri: str = ""

    @property
    def labels(self) -> tuple[str, str, str]:
        """The values of the labels `model`, `version` and `revision`."""
        return self.model, self.version, self.revision


#: What a column held in training: numbers, text, or what only the model's own code knows.
ColumnKind = Literal["number", "string", "any"]


@dataclass(frozen=True, slots=True)
class TrainedColumn:
    """What a model remembers of a column of the table that it was trained with.

    `categories` are those of pandas: values that it can take. `takes_null`: it knows what to do with missing values.
    `sample` is a value that it was trained with, for a row to try it.
    """

    kind: ColumnKind = "number"
    categories: tuple[Scalar, ...] | None = None
    takes_null: bool = False
    sample: Scalar | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a loaded model knows about its inputs; empty where it knows nothing.

    `tensors` are the inputs of a graph; `feature_names` and `feature_count` those of an estimator;
    `as_columns` asks for one array a feature, because the model takes a table; `columns` is what it remembers of each
    feature, by place. `may_use_names`: code of the package's own sees the rows first.
    `has_blanks_replaced`: its library wrote underscores for the blanks in names.
    `takes_texts`: a row is one text.
    `features` are its inputs where it describes them itself.
    """

    tensors: tuple[Tensor, ...] = ()
    feature_names: tuple[str, ...] = ()
    feature_count: int | None = None
    as_columns: bool = False
    columns: Mapping[int, TrainedColumn] = field(default_factory=dict)
    may_use_names: bool = False
    has_blanks_replaced: bool = False
    takes_texts: bool = False
    features: tuple[Feature, ...] = ()


class Model(Protocol):
    """A loaded model. `predict` is called from one thread at a time, not always the same one."""

    signature: Signature
    # The name of the output that holds a classifier's probabilities, "" when the model has none to give,
    # and the class labels in the order of its columns.
    probability_output: str
    classes: tuple[object, ...]
    # True when a call neither waits for anything nor sleeps: short calls then run on the event loop.
    runs_inline: bool

    def predict(self, inputs: Inputs, *, probabilities: bool) -> Outputs:
        """Call the model on all rows. The first output is the prediction, shape (rows,) or (rows, ...).

        `inputs` are the arrays of the model's input adapter: one of shape (rows, features), or one of shape (rows,)
        for each feature, or the tensors that the signature names. They belong to the call: it may write into them.
        With `probabilities` the outputs also hold the one named `probability_output`, shape (rows, classes); a model
        that has none, and an attribute `score_output`, gives the one of that name, shape (rows,) or (rows, classes).
        """


@runtime_checkable
class Convertible(Model, Protocol):
    """A model that can be turned into an ONNX graph; `described` names its kind in messages."""

    @property
    def described(self) -> str: ...

    def to_onnx(self, count: int) -> bytes:
        """The serialized graph for rows of `count` numbers. Raises what the converter raises."""


@runtime_checkable
class EmbeddingModel(Model, Protocol):
    """A model of texts whose first output are their embeddings, float32 of shape (rows, dimensions).

    With `probabilities` the outputs also hold the one named `token_output`: how many tokens each row has.
    """

    token_output: str

    def count_tokens(self, texts: Sequence[str]) -> int:
        """How many tokens the model computes for these texts."""


@runtime_checkable
class StreamingModel(Model, Protocol):
    """A model that also answers in steps."""

    def stream(self, inputs: Inputs) -> Iterator[Outputs]:
        """The steps of an answer, each as `predict` gives its outputs."""


#: The parts of a call of a model with steps around it, in their order; `model` is the model itself.
STEPS = ("pre", "model", "post")
#: Seconds in each of these parts, by name, in their order; empty for a model without steps.
StepTimes: TypeAlias = Mapping[str, float]


@runtime_checkable
class SteppedModel(Model, Protocol):
    """A model with code of its package before or after it (`pre.py`, `post.py`), which is timed apart."""

    @property
    def steps(self) -> Sequence[str]:
        """Those of `STEPS` that it has."""

    def take_times(self) -> StepTimes:
        """The seconds in each of them since this was last called."""

    def settle(self, outputs: Outputs) -> None:
        """See from a first answer, {} where there is none, which probabilities and classes it has."""


class InputAdapter(Protocol):
    """Turns requests into the model's arrays. Every method raises InvalidInput that names the fault."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """Named columns; empty when the model has none."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The inputs as V2 describes them."""

    def from_instances(self, instances: Sequence[Any], *, numbers_only: bool) -> Inputs:
        """Arrays of JSON rows. `numbers_only`: the document holds no true, false or null anywhere."""

    def from_tensors(self, tensors: Mapping[str, Array]) -> Inputs:
        """Arrays of the tensors of a protocol, which have at least one row."""

    def sample_row(self) -> list[Any] | None:
        """A row's values in the features' order: their examples, or values that they allow; None without features."""

    def example(self) -> Inputs | None:
        """One row from the features' own examples, None when they do not all have one."""

    def dummy_rows(self) -> Inputs | None:
        """One made-up row, to touch every code path once; None when nothing is known."""

    def other_dummy_rows(self) -> Sequence[Inputs]:
        """Other made-up rows, one each, for a model that cannot compute with the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model in memory, and all that is known about it."""

    identity: Identity
    metadata: Metadata
    adapter: InputAdapter
    model: Model
    outputs: tuple[Tensor, ...]
    #: Parameters of a call that the package's signature declares, by name, each with its type in MLflow's words.
    params: Mapping[str, str] = field(default_factory=dict)
    #: Why it could not predict the row that was made up to try it; empty where it could, or where none was.
    warm_up_failure: str = ""
    #: What it answered to the row it was warmed with, for the documentation; empty where there was none.
    sample: Outputs = field(default_factory=dict)
    #: What explains its predictions; None where they are not explained, and then the sentence that says why.
    explainer: Explainer | None = None
    unexplained: str = "explanations are off: set MODEL_SERVER_EXPLANATIONS=true"

    @property
    def score_output(self) -> str:
        """The output with the scores of a classifier that has no probabilities, "" for all other models."""
        return getattr(self.model, "score_output", "")

    @property
    def embedding_model(self) -> EmbeddingModel | None:
        """The model where it gives embeddings of texts, None for all others."""
        return self.model if isinstance(self.model, EmbeddingModel) else None

    @property
    def has_predicted(self) -> bool:
        """Whether it has made a prediction at load, of its example or of a made-up row."""
        return bool(self.sample)

    @property
    def class_labels(self) -> tuple[object, ...]:
        """The labels it can answer with: the model's own, else model.yaml's categories, else none."""
        if self.model.classes:
            return self.model.classes
        outputs = self.metadata.output_features
        return tuple(outputs[0].categories or ()) if outputs else ()

    @property
    def answers_numbers(self) -> bool:
        """Whether its prediction is a number on a scale, and no class."""
        return bool(self.outputs) and self.outputs[0].datatype.startswith("FP") and not self.class_labels


@dataclass(slots=True, kw_only=True)
class InferenceRequest:
    """What a protocol decodes to: rows, and what should come back. Not frozen: that costs 3 us a request.

    `inputs` as in `Model.predict`. `outputs` names the wanted ones, () for all.
    """

    inputs: Inputs
    # Also the scores of a model that has no probabilities.
    probabilities: bool = False
    outputs: tuple[str, ...] = ()
    # The client's own id, and the outputs that it wants as raw bytes.
    id: str | None = None
    binary_outputs: frozenset[str] = frozenset()
    all_binary: bool = False
    # The contributions are wanted in place of the predictions.
    explains: bool = False
