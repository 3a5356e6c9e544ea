"""The descriptor set that the server loads is the checked-in .proto."""

from __future__ import annotations

import re
from importlib import resources

from google.protobuf import descriptor_pb2

FIELD = descriptor_pb2.FieldDescriptorProto
FOLDER = resources.files("model_server.grpc")


def type_name(field) -> str:
    if field.type == FIELD.TYPE_MESSAGE:
        return field.type_name.removeprefix(".")
    return FIELD.Type.Name(field.type).removeprefix("TYPE_").lower()


def field_line(field, entries) -> str:
    if field.type == FIELD.TYPE_MESSAGE and field.type_name.rsplit(".", 1)[1] in entries:
        key, value = entries[field.type_name.rsplit(".", 1)[1]].field
        return f"map<{type_name(key)}, {type_name(value)}> {field.name} = {field.number};"
    repeated = "repeated " if field.label == FIELD.LABEL_REPEATED else ""
    return f"{repeated}{type_name(field)} {field.name} = {field.number};"


def message_lines(message) -> list[str]:
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    lines = [f"message {message.name} {{"]
    for nested in message.nested_type:
        lines += message_lines(nested) if nested.name not in entries else []
    for number, choice in enumerate(message.oneof_decl):
        inside = [f for f in message.field if f.HasField("oneof_index") and f.oneof_index == number]
        lines += [f"oneof {choice.name} {{", *(field_line(field, entries) for field in inside), "}"]
    lines += [field_line(field, entries) for field in message.field if not field.HasField("oneof_index")]
    return [*lines, "}"]


def test_the_descriptor_set_is_the_proto():
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(FOLDER.joinpath("open_inference.binpb").read_bytes()).file
    (service,) = file.service
    lines = [f'syntax = "{file.syntax}";', f"package {file.package};", f"service {service.name} {{"]
    for method in service.method:
        names = (kind.removeprefix(f".{file.package}.") for kind in (method.input_type, method.output_type))
        given, answered = (
            f"{'stream ' * is_stream}{name}"
            for name, is_stream in zip(names, (method.client_streaming, method.server_streaming), strict=True)
        )
        lines.append(f"rpc {method.name}({given}) returns ({answered});")
    lines.append("}")
    for message in file.message_type:
        lines += message_lines(message)
    text = re.sub(r"//.*", "", FOLDER.joinpath("open_inference.proto").read_text())
    assert [line.strip() for line in text.splitlines() if line.strip()] == lines
