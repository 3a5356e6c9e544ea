"""The protocol's messages, from the descriptor set of `open_inference.proto`.

Generated code would tie the server to the protobuf releases that its generator allows; a descriptor set does not.
"""

from __future__ import annotations

from importlib import resources
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"


class Method(NamedTuple):
    """A method of the protocol, with the names of its messages."""

    name: str
    request: str
    response: str
    server_streaming: bool


def _load() -> tuple[descriptor_pool.DescriptorPool, tuple[Method, ...]]:
    """The pool with the protocol's messages in it, and its methods."""
    content = resources.files(__package__).joinpath("open_inference.binpb").read_bytes()
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(content).file
    # The default pool is where the reflection service looks.
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return pool, tuple(
        Method(
            method.name,
            method.input_type.rpartition(".")[2],
            method.output_type.rpartition(".")[2],
            method.server_streaming,
        )
        for method in file.service[0].method
    )


_POOL, METHODS = _load()


def message(name: str) -> Any:
    """The class of a message, such as `ModelInferRequest` or `ModelInferRequest.InferInputTensor`."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))
