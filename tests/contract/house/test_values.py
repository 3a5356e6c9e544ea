"""The page of the chart's values has every value with its default and a meaning."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "helm" / "modeldeploy"
ROW = re.compile(r"^\| `(.+?)` \| (.*?) \| (.*) \|$", re.MULTILINE)
PAGE = (ROOT / "docs" / "reference" / "chart.md").read_text()
ROWS = {path: (default.strip("`"), meaning) for path, default, meaning in ROW.findall(PAGE)}
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
#: What has no row: Helm gives `global` to every chart, and the templates refuse `rbac.readSecrets`.
WITHOUT_ROW = {"global", "rbac.readSecrets"}


def paths(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the path of each value that the schema allows."""
    if "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    if "properties" not in schema:
        yield path
    for name, below in schema.get("properties", {}).items():
        yield from paths(below, f"{path}.{name}".lstrip("."))


def is_inside(path: str, group: str) -> bool:
    return path == group or path.startswith(f"{group}.")


@pytest.mark.parametrize("path", sorted(set(paths(SCHEMA)) - WITHOUT_ROW))
def test_a_value_of_the_schema_has_a_row(path: str) -> None:
    assert any(is_inside(row, path) for row in ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_a_meaning_and_the_default_of_the_chart(row: str) -> None:
    default, meaning = ROWS[row]
    assert meaning
    value = VALUES
    for name in row.split("."):
        value = value[name]
    assert isinstance(value, dict) if not default else yaml.safe_load(default) == value


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_a_value_of_the_schema(row: str) -> None:
    assert any(is_inside(row, path) or is_inside(path, row) for path in paths(SCHEMA))


@pytest.mark.parametrize("row", ROWS)
def test_a_meaning_is_no_markup_by_accident(row: str) -> None:
    assert not re.search(r"[*<>{}\[\]_]", re.sub(r"`[^`]*`", "", ROWS[row][1]))
