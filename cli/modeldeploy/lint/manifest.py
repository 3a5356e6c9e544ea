"""YAML documents that remember on which line each field stands. Used by `commands/lint.py`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from modeldeploy.yaml_text import check_size

Path = tuple[str | int, ...]


class ManifestError(Exception):
    """The text is no YAML; the message has the line."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with the field at `path`, in a sentence."""

    path: Path
    message: str

    @property
    def field(self) -> str:
        """The path as Kubernetes writes it, as in `spec.steps[2].setWeight`."""
        text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return text.removeprefix(".")


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its `body` as plain values, and the node it was read from."""

    body: Any
    _node: yaml.Node

    def line_of(self, path: Path) -> int:
        """Line (from 1) of the field at `path`, or of the nearest field around it that is there."""
        node, line = self._node, self._node.start_mark.line
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line + 1

    def repeated(self) -> Iterator[Problem]:
        """Fields that one object has twice, which YAML lets pass and the API server refuses."""
        yield from _repeated(self._node, ())

    def items(self) -> Sequence["Document"]:
        """The objects that a `kind: List` holds; of any other document itself."""
        if not isinstance(self.body, dict) or self.body.get("kind") != "List":
            return [self]
        found = _child(self._node, "items")
        nodes = found[1].value if found and isinstance(found[1], yaml.SequenceNode) else []
        bodies = self.body["items"] if nodes else ()
        return [Document(body, node) for body, node in zip(bodies, nodes, strict=True)]


def read_documents(text: str) -> Iterator[Document]:
    """The documents of a file; empty ones are left out. Raises `ManifestError`."""
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            if node is not None and node.tag != "tag:yaml.org,2002:null":
                check_size(node)
                yield Document(loader.construct_document(node), node)
    except yaml.YAMLError as error:
        raise ManifestError(" ".join(str(error).split())) from error
    except RecursionError:
        raise ManifestError("it is nested too deeply") from None


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: a date is a text."""


_Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _repeated(node: yaml.Node, path: Path) -> Iterator[Problem]:
    if isinstance(node, yaml.MappingNode):
        keys = set()
        for key, value in node.value:
            if key.value in keys:
                yield Problem((*path, key.value), "stands here twice")
            keys.add(key.value)
            yield from _repeated(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated(item, (*path, index))


def _child(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        pairs: Sequence[tuple[yaml.Node, yaml.Node]] = node.value
        # Of a field that is there twice the last one counts.
        return next(((key.start_mark.line, value) for key, value in reversed(pairs) if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item: yaml.Node = node.value[part]
        return item.start_mark.line, item
    return None
