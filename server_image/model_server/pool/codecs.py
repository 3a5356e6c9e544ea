"""The protocols that a pool speaks: the front's routes name them, and the workers decode and encode with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_server.dataplane import Codec
from model_server.protocols.cloudevents import Events
from model_server.protocols.payload import Answer, Payload
from model_server.protocols.v1 import Instances
from model_server.protocols.v2 import Tensors

CODECS: Mapping[str, Codec[Payload, Answer]] = {
    "v2": Tensors(),
    "v1": Events(Instances(also=("signature_name", "inputs"))),
}


def name_of(codec: Any) -> str:
    """The name under which a worker knows a codec."""
    return next(name for name, one in CODECS.items() if one is codec)
