"""YAML documents that remember on which line each field stands. Used by `commands/lint.py`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

Path = tuple[str | int, ...]


class ManifestError(Exception):
    """The text is no YAML; the message has the line."""


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


def read_documents(text: str) -> Iterator[Document]:
    """The documents of a file; empty ones are left out. Raises `ManifestError`."""
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None and node.tag != "tag:yaml.org,2002:null":
                yield Document(loader.construct_document(node), node)
    except yaml.YAMLError as error:
        raise ManifestError(" ".join(str(error).split())) from error
    finally:
        loader.dispose()


def _child(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        pairs: Sequence[tuple[yaml.Node, yaml.Node]] = node.value
        return next(((key.start_mark.line, value) for key, value in pairs if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item: yaml.Node = node.value[part]
        return item.start_mark.line, item
    return None
