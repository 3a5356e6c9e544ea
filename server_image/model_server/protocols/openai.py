"""`POST /v1/embeddings`, as OpenAI's clients send it, for models that give embeddings.

https://platform.openai.com/docs/api-reference/embeddings/create
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from model_server.domain.model import InferenceRequest, LoadedModel
from model_server.domain.tensors import Outputs
from model_server.errors import InvalidInput, Problem, UnknownModel, UnknownRoute
from model_server.inputs.adapter import MOST_PROBLEMS, preview
from model_server.protocols.checks import limit_rows, require_object, type_name
from model_server.protocols.payload import Answer, Payload

#: `user` names the client's own user, for OpenAI's logs; it says nothing here.
_FIELDS = ("input", "model", "encoding_format", "dimensions", "user")
_FORMATS = ("float", "base64")


@dataclass(slots=True, kw_only=True)
class EmbeddingRequest(InferenceRequest):
    """Texts, and how their vectors are written."""

    encoding_format: str = "float"


class Embeddings:
    """The codec of embedding requests."""

    def decode(self, payload: Payload, loaded: LoadedModel, *, max_rows: int) -> EmbeddingRequest:
        """The texts. Raises RequestErrors that name the field, and UnknownRoute for a model without embeddings."""
        if loaded.embedding_model is None:
            raise UnknownRoute("this model gives no embeddings", hint="POST /predict answers with its predictions.")
        document = require_object(payload.json())
        strange = [name for name in document if name not in _FIELDS][:MOST_PROBLEMS]
        if strange:
            known = f"is not a field of this request; known are {', '.join(_FIELDS)}"
            raise InvalidInput([Problem(name, known) for name in strange])
        _check_model(document, loaded)
        texts = _texts(document)
        limit_rows(len(texts), max_rows, "input")
        _check_dimensions(document.get("dimensions"), loaded)
        return EmbeddingRequest(
            inputs=loaded.adapter.from_instances(texts, numbers_only=False),
            probabilities=True,
            encoding_format=_encoding_format(document),
        )

    def encode(self, outputs: Outputs, request: InferenceRequest, loaded: LoadedModel) -> Answer:
        """The vectors in the order of the texts, as numbers or as base64 of little-endian float32."""
        vectors = next(iter(outputs.values())).astype("<f4", copy=False)
        model = loaded.embedding_model
        tokens = 0 if model is None else int(outputs[model.token_output].sum())
        if isinstance(request, EmbeddingRequest) and request.encoding_format == "base64":
            written: list[Any] = [b64encode(np.ascontiguousarray(row).tobytes()).decode() for row in vectors]
        else:
            written = list(vectors)
        answer = {
            "object": "list",
            "data": [{"object": "embedding", "index": place, "embedding": one} for place, one in enumerate(written)],
            "model": loaded.identity.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return Answer(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))


def _check_model(document: dict[str, Any], loaded: LoadedModel) -> None:
    name = document.get("model")
    if name is None:
        return
    if not isinstance(name, str):
        raise InvalidInput.at("model", f"expected a string, got {type_name(name)}")
    if name != loaded.identity.model:
        raise UnknownModel(f"model {name!r} is not served here", hint=f"This server serves {loaded.identity.model!r}.")


def _texts(document: dict[str, Any]) -> Sequence[str]:
    given = document.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list):
        what = (
            "is missing" if "input" not in document else f"expected a text or a list of texts, got {type_name(given)}"
        )
        raise InvalidInput.at("input", what)
    for place, text in enumerate(texts):
        where = "input" if isinstance(given, str) else f"input[{place}]"
        if isinstance(text, int | list):
            raise InvalidInput.at(where, "expected a text: numbers of tokens belong to the vocabulary of another model")
        if not isinstance(text, str):
            raise InvalidInput.at(where, f"expected a text, got {type_name(text)}")
        if not text:
            raise InvalidInput.at(where, "expected a text, got an empty one")
    return texts


def _check_dimensions(wanted: Any, loaded: LoadedModel) -> None:
    """Vectors of another length are what only models trained for it (Matryoshka) can give."""
    size = loaded.outputs[0].shape[-1] if loaded.outputs else -1
    if wanted is not None and (type(wanted) is not int or wanted != size):
        raise InvalidInput.at("dimensions", f"expected {size}, the only length this model gives, got {preview(wanted)}")


def _encoding_format(document: dict[str, Any]) -> str:
    wanted = document.get("encoding_format")
    if wanted is None:
        return "float"
    if not isinstance(wanted, str) or wanted not in _FORMATS:
        raise InvalidInput.at("encoding_format", f"expected float or base64, got {preview(wanted)}")
    return wanted
