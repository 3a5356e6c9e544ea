"""The page of the chart's values, made from values.yaml and its comments. Used by `docs/generate.py`.

The YAML parser says on which line a key is; its meaning is the comment that ends on the line before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from generators.tables import table

_INTRO = """\
# Values of the chart

This page is made from `helm/modeldeploy/values.yaml` by `make docs`. `values.schema.json` of the chart checks what you
write: a value that is not on this page is refused. The page of the [operator](../operator.md) lists the environment
variables that the chart sets from them."""


@dataclass(frozen=True, slots=True)
class Value:
    """One key of the file: its path, its default as YAML (empty for a group of values), and its comment."""

    path: str
    default: str
    meaning: str

    @property
    def is_group(self) -> bool:
        """Whether the key has values below it, and none of its own."""
        return not self.default


def values(text: str) -> Iterator[Value]:
    """Yield each key of a values.yaml in its order.

    A mapping in flow style, such as `{cpu: 50m}`, is one value; a mapping in block style is a group.

    Raises:
        ValueError: the file is no mapping.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise ValueError(f"values.yaml has to be a mapping, and is {root}")
    yield from _values(root, (), text.splitlines(), text)


def _values(node: yaml.MappingNode, parents: Sequence[str], lines: Sequence[str], text: str) -> Iterator[Value]:
    for key, value in node.value:
        path = (*parents, key.value)
        is_group = isinstance(value, yaml.MappingNode) and not value.flow_style
        default = "" if is_group else text[value.start_mark.index : value.end_mark.index].strip()
        yield Value(".".join(path), default, _comment_above(key.start_mark.line, key.start_mark.column, lines))
        if is_group:
            yield from _values(value, path, lines, text)


def _comment_above(line: int, column: int, lines: Sequence[str]) -> str:
    """Return the comment with the same indentation that ends on the line above; empty without one."""
    first = line
    while first > 0 and lines[first - 1].startswith(" " * column + "#"):
        first -= 1
    return " ".join(text.strip().removeprefix("#").strip() for text in lines[first:line])


def page(root: Path) -> str:
    """The page as Markdown."""
    text = (root / "helm" / "modeldeploy" / "values.yaml").read_text()
    rows = [
        (f"`{one.path}`", f"`{one.default}`" if one.default else "", one.meaning)
        for one in values(text)
        if one.meaning or not one.is_group
    ]
    return f"{_INTRO}\n\n{table(('value', 'default', 'meaning'), rows)}\n"
