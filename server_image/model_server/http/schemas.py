"""The bodies whose shape is the same for every model: what the routers answer with, and what the document describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel

from model_server.domain.tensors import DTYPES

if TYPE_CHECKING:
    from fastapi import Response

FORBID = ConfigDict(extra="forbid")


class ErrorDetail(BaseModel):
    """One fault of the input."""

    field: str = Field(description="Row and feature, such as `instances[3].age`; empty for the whole body.")
    message: str = Field(description="What was expected, and what came.")


class Error(BaseModel):
    """What every refused request is answered with."""

    error: str = Field(description="A sentence that says what was wrong and what was expected.")
    reason: str = Field(description="One stable word for programs.")
    hint: str | None = None
    error_code: str | None = Field(None, description="MLflow's word for it, at its paths.")
    message: str | None = Field(None, description="The sentence again, at MLflow's paths.")
    details: list[ErrorDetail] | None = Field(None, description="Each fault, for `InvalidInput`.")


class Parameters(BaseModel):
    """What should come back."""

    model_config = FORBID
    probabilities: bool = Field(False, description="Add the classifier's probabilities and its classes.")
    scores: bool = Field(False, description="Add the scores of a model that has no probabilities.")


class Phase(BaseModel):
    """How far the server is."""

    phase: Literal["downloading", "loading", "warming", "ready", "draining", "failed"]
    message: str


class Tensor(BaseModel):
    """A named tensor with its data, flat in row-major order or nested."""

    name: str
    shape: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    datatype: Literal[tuple(DTYPES)]  # type: ignore[valid-type]
    parameters: dict[str, Any] | None = None
    data: list[Any]


class RequestOutput(BaseModel):
    """An output that should come back."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(BaseModel):
    """An Open Inference Protocol request."""

    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: list[Tensor] = Field(min_length=1)
    outputs: list[RequestOutput] | None = None


class InferResponse(BaseModel):
    """An Open Inference Protocol response."""

    model_name: str
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[Tensor]


class Split(BaseModel):
    """A table as pandas writes it with `orient="split"`."""

    columns: list[str | int] | None = None
    index: list[Any] | None = None
    data: list[Any]


class SplitTable(BaseModel):
    """`dataframe_split`."""

    model_config = FORBID
    dataframe_split: Split
    params: Any = None


class RecordsTable(BaseModel):
    """`dataframe_records`."""

    model_config = FORBID
    dataframe_records: list[Any]
    params: Any = None


class Instances(BaseModel):
    """`instances`."""

    model_config = FORBID
    instances: list[Any]
    params: Any = None


class Columns(BaseModel):
    """`inputs`: rows, or a list for each column."""

    model_config = FORBID
    inputs: list[Any] | dict[str, list[Any]]
    params: Any = None


class Table(RootModel[SplitTable | RecordsTable | Instances | Columns]):
    """A table in one of MLflow's four forms."""


class EmbeddingsRequest(BaseModel):
    """Texts to embed, as OpenAI's clients send them."""

    model_config = FORBID
    input: (
        Annotated[str, Field(min_length=1)] | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    ) = Field(description="One text, or several.")
    model: str | None = Field(None, description="The served model's name.")
    encoding_format: Literal["float", "base64"] | None = Field(None, description="Numbers, or base64 of float32.")
    dimensions: int | None = Field(None, description="The length of the model's vectors; no other is given.")
    user: Any = Field(None, description="Says nothing here.")


class Embedding(BaseModel):
    """The vector of one text."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """How many tokens were computed."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """The vectors, in the order of the texts."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


#: NaN and infinity become null.
Numbers = float | None | list[float | None]


class RowExplanation(BaseModel):
    """Why one row was answered as it was. Lists hold a number for each class."""

    base_value: Numbers = Field(description="The output without knowing any feature.")
    contributions: dict[str, Numbers] = Field(description="By feature; with the base value they add up to the output.")
    output: Numbers = Field(description="What the model answers, on the scale of the contributions.")
    standard_errors: dict[str, Numbers] | None = Field(None, description="Of contributions that are estimates.")


class ExplainResponse(BaseModel):
    """The contributions of the features to each prediction."""

    explanations: list[RowExplanation]
    method: Literal["TreeSHAP", "linear", "permutation sampling"]
    scale: Literal["prediction", "probability", "raw score"]
    classes: list[Any] | None = Field(
        None, description="What the outputs are about: the second of two classes, or all."
    )
    model_name: str
    model_version: str


class FeatureImportance(BaseModel):
    """The mean absolute contribution of each feature over the reference profile."""

    importance: dict[str, float] = Field(description="By feature, the largest first.")
    rows: int = Field(description="Rows, drawn from the profile, that it is the mean of.")
    method: Literal["TreeSHAP", "linear", "permutation sampling"]
    scale: Literal["prediction", "probability", "raw score"]


class Feedback(BaseModel):
    """A label for a prediction that is remembered by its id or sent along, or a conversion."""

    model_config = FORBID
    id: Any = Field(None, description="The prediction's `x-request-id`.")
    prediction: Any = None
    label: Any = Field(None, description="What was right; a list for several rows.")
    conversion: bool = Field(False, description="Whether the prediction led to what was hoped for.")
    groups: Any = Field(None, description="Groups that the rows belong to, by the name of a monitored slice.")


class Status(BaseModel):
    """All is well."""

    status: Literal["ok"]


class Empty(BaseModel):
    """Nothing but a status code."""

    model_config = FORBID


class V1Models(BaseModel):
    """The models served here."""

    models: list[str]


class ModelReady(BaseModel):
    """Whether one model answers predictions."""

    name: str
    ready: bool


class ServerMetadata(BaseModel):
    """Who answers, and what it can do beyond the protocol."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """The server runs."""

    live: bool


class Ready(BaseModel):
    """Whether the server answers predictions."""

    ready: bool


class RepositoryModel(BaseModel):
    """A model and whether it is ready, as Triton's model repository extension lists it."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class Duration(BaseModel):
    """How often something happened, and how long it took in all."""

    count: int
    ns: int


class InferenceStatistics(BaseModel):
    """Predictions that succeeded and failed, and the parts of their time. The last four count calls of each part."""

    success: Duration
    fail: Duration
    queue: Duration = Field(description="Wait of the oldest request in each call of the model.")
    compute_input: Duration = Field(description="From bodies to the model's inputs.")
    compute_infer: Duration = Field(description="Calls of the model.")
    compute_output: Duration = Field(description="From the model's outputs to bodies.")


class ModelStatistics(BaseModel):
    """What a model has answered since this server began."""

    name: str
    version: str
    inference_count: int = Field(description="Rows that the model was called with.")
    execution_count: int = Field(description="Calls of the model, each for a batch of rows.")
    inference_stats: InferenceStatistics
    batch_stats: list[Any] = Field(description="Empty: sizes of batches are in /metrics.")


class Statistics(BaseModel):
    """The statistics of all models, of which there is one."""

    model_stats: list[ModelStatistics]


class TensorMetadata(BaseModel):
    """One input or output; a size of -1 is any."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


B = TypeVar("B", bound=BaseModel)


def answer_ready(document: B, response: Response, *, ready: bool | None = None) -> B:
    """A document of readiness, with 503 unless it (or `ready`) says that predictions are answered."""
    is_ready = getattr(document, "ready", False) if ready is None else ready
    response.status_code = 200 if is_ready else 503
    return document


def unavailable(shape: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """The answer 503 of a route whose body then has this shape."""
    return {503: {"model": shape, "description": "The model is not ready."}}


def json_body(schema: str) -> dict[str, Any]:
    """A request body of the document: JSON of the schema with this name."""
    return {"required": True, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}
