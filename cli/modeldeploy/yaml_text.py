"""YAML of strangers: a short document whose aliases stand for a huge one is refused before anybody walks through it."""

from typing import Any

import yaml

#: Values of a document with each alias written out; the largest manifests have some thousands.
MOST_VALUES = 1_000_000


def load_yaml(text: str) -> Any:
    """Return the plain values of one document.

    Raises:
        yaml.YAMLError: it is none, or its aliases stand for too much.
        RecursionError: it is nested too deeply.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        check_size(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def check_size(node: yaml.Node) -> None:
    """Raise `yaml.YAMLError` for a document of too many values, aliases written out, or one that contains itself."""
    if _size(node, {}) > MOST_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES} values, or for themselves")


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    if isinstance(node, yaml.ScalarNode):
        return 1
    found = known.get(id(node))
    if found is None:
        known[id(node)] = MOST_VALUES + 1  # met within itself, it has no end
        children = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        found = known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return found
