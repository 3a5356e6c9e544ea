"""The protocols that a pool speaks: the front's routes name them, and the workers decode and encode with them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from model_server.dataplane import Codec, ExplanationCodec
from model_server.domain.explanations import Explanation
from model_server.domain.model import InferenceRequest, LoadedModel
from model_server.domain.tensors import Outputs
from model_server.protocols.cloudevents import Events
from model_server.protocols.explanations import ExplainedInstances
from model_server.protocols.payload import Answer, Payload
from model_server.protocols.v1 import Instances
from model_server.protocols.v2 import Tensors

if TYPE_CHECKING:
    from model_server.grpc.tensors import Messages

AnyCodec: TypeAlias = Codec[Payload, Answer] | ExplanationCodec[Payload, Answer]


class MessageBytes:
    """The codec of `ModelInfer` where messages come and go as bytes; the first one imports protobuf."""

    @cached_property
    def _messages(self) -> Messages:
        from model_server.grpc.tensors import Messages

        return Messages()

    def decode(self, payload: Payload, loaded: LoadedModel, *, max_rows: int) -> InferenceRequest:
        """Arrays of the tensors. Raises RequestErrors that name the tensor."""
        from model_server.grpc.messages import message
        from model_server.grpc.tensors import MessagePayload

        asked = MessagePayload(message("ModelInferRequest").FromString(payload.body))
        return self._messages.decode(asked, loaded, max_rows=max_rows)

    def encode(self, outputs: Outputs, request: InferenceRequest, loaded: LoadedModel) -> Answer:
        """The response with the wanted outputs."""
        return Answer(self._messages.encode(outputs, request, loaded).SerializeToString(), b"application/grpc")


CODECS: Mapping[str, AnyCodec] = {
    "v2": Tensors(),
    "v1": Events(Instances(also=("signature_name", "inputs"))),
    "v1-explain": ExplainedInstances(also=("signature_name", "inputs")),
    "grpc": MessageBytes(),
}
#: The operations of a pool's routes, in the words of the OpenAPI document.
OPERATIONS = tuple(
    f"{name}{suffix}" for name in ("v2_infer", "v1_predict", "v1_explain") for suffix in ("", "_version")
)
#: Those that answer by explanations alone.
EXPLAINING = frozenset({"v1-explain"})


class Noted:
    """A codec that remembers whether a request asked for an explanation; for one request."""

    def __init__(self, name: str) -> None:
        self._codec: Any = CODECS[name]
        self.explains = name in EXPLAINING

    def decode(self, payload: Payload, loaded: LoadedModel, *, max_rows: int) -> InferenceRequest:
        """As the codec's."""
        request: InferenceRequest = self._codec.decode(payload, loaded, max_rows=max_rows)
        self.explains = self.explains or request.explains
        return request

    def encode(self, outputs: Outputs, request: InferenceRequest, loaded: LoadedModel) -> Answer:
        """As the codec's."""
        answer: Answer = self._codec.encode(outputs, request, loaded)
        return answer

    def explained(self, explanation: Explanation, request: InferenceRequest, loaded: LoadedModel) -> Answer:
        """As the codec's."""
        answer: Answer = self._codec.explained(explanation, request, loaded)
        return answer


def name_of(codec: Any) -> str:
    """The name under which a worker knows a codec."""
    return next(name for name, one in CODECS.items() if one is codec)
