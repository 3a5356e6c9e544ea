"""The reference page of the ModelDeployment, made from its schema. Used by `docs/generate.py`."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from generators.batch_reasons import BATCH_CONDITIONS, BATCH_EVENTS
from generators.events import section
from generators.pool_reasons import POOL_CONDITIONS, POOL_EVENTS

Schema = Mapping[str, Any]

_INTRO = """\
# ModelDeployment (`{group}/{version}`)

This page is made from `crds/modeldeployments.yaml` by `make docs`. One ModelDeployment is one served
model; `spec.model.storageUri` is the only field that must be given. Short name `{short}`; `kubectl
explain {plural}.spec` shows the same.
"""


_BATCHES = """\
# ModelBatch (`{group}/{version}`)

This page is made from `crds/modelbatches.yaml` by `make docs`. One ModelBatch predicts a table once, or starts a run at
each time of its schedule. Short name `{short}`; `kubectl explain {plural}.spec` shows the same.
[Predict a table every night](../how-to/nightly-table.md) has an example.
"""


_POOLS = """\
# ModelPool (`{group}/{version}`)

This page is made from `crds/modelpools.yaml` by `make docs`. One ModelPool serves many small models in the pods of one
Deployment. Short name `{short}`; `kubectl explain {plural}.spec` shows the same.
[Serve many small models](../how-to/many-small-models.md) has an example.
"""


def page(root: Path) -> str:
    """The page of ModelDeployments as Markdown."""
    return _page(root / "crds" / "modeldeployments.yaml", _INTRO)


def batches(root: Path) -> str:
    """The page of ModelBatches as Markdown."""
    parts = [_page(root / "crds" / "modelbatches.yaml", _BATCHES).strip(), "## Conditions\n\n`status.conditions[]`."]
    parts += [section(f"`{type_}`", says, rows, level=3) for type_, (says, rows) in BATCH_CONDITIONS.items()]
    parts += [section("Events", "`kubectl describe mbatch NAME` shows them.", BATCH_EVENTS)]
    return "\n\n".join(parts) + "\n"


def pools(root: Path) -> str:
    """The page of ModelPools as Markdown."""
    parts = [_page(root / "crds" / "modelpools.yaml", _POOLS).strip(), "## Conditions\n\n`status.conditions[]`."]
    parts += [section(f"`{type_}`", says, rows, level=3) for type_, (says, rows) in POOL_CONDITIONS.items()]
    parts += [section("Events", "`kubectl describe mpool NAME` shows them.", POOL_EVENTS)]
    return "\n\n".join(parts) + "\n"


def _page(file: Path, intro: str) -> str:
    crd = yaml.safe_load(file.read_text())["spec"]
    version = crd["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    parts = [
        intro.format(
            group=crd["group"],
            version=version["name"],
            short=crd["names"]["shortNames"][0],
            plural=crd["names"]["plural"],
        ),
        _columns(version["additionalPrinterColumns"], crd["names"]["shortNames"][0]),
        "## What is refused by the schema\n\n"
        "Besides wrong types, unknown fields and values out of range, `kubectl apply` refuses:\n\n"
        + "\n".join(f"- `{path or 'metadata'}`: {message}" for path, message in rules(schema)),
    ]
    for part in ("spec", "status"):
        parts += [_section(path, found) for path, found in objects(schema["properties"][part], part)]
    return "\n\n".join(text.strip() for text in parts) + "\n"


def rules(schema: Schema, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and message of every rule in the schema."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path, rule["message"]
    for name, child in schema.get("properties", {}).items():
        yield from rules(child, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from rules(schema["items"], f"{path}[]")


def objects(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Path and schema of every object that has fields of its own, parents first."""
    if schema.get("properties"):
        yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from objects(child, f"{path}.{name}")
    if "items" in schema:
        yield from objects(schema["items"], f"{path}[]")


def _columns(columns: list[dict[str, Any]], short: str) -> str:
    rows = [
        f"| {one['name'].upper()} | {'`-o wide`' if one.get('priority') else 'always'} | "
        f"{one.get('description', 'Time since it was created')} |"
        for one in columns
    ]
    return "\n".join(
        [f"## Columns of `kubectl get {short}`", "", "| column | shown | meaning |", "|---|---|---|", *rows]
    )


def _section(path: str, schema: Schema) -> str:
    lines = [f"## `{path}`", ""]
    if schema.get("description"):
        lines += [schema["description"], ""]
    lines += ["| field | type | default | allowed | meaning |", "|---|---|---|---|---|"]
    needed = schema.get("required", ())
    lines += [_row(name, child, needed) for name, child in schema["properties"].items()]
    return "\n".join(lines)


def _row(name: str, schema: Schema, needed: Collection[str]) -> str:
    meaning = schema.get("description", "")
    default = "**required**" if name in needed else _default(schema)
    cells = [f"`{name}`", _type(schema), default, _allowed(schema), meaning]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if schema.get("format") == "date-time":
        return "time"
    return str(schema.get("type", "any"))


def _default(schema: Schema) -> str:
    if "default" not in schema or schema["default"] == {}:
        return ""
    default = schema["default"]
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _allowed(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "pattern" in schema and "(ms|s|m|h|d)" in schema["pattern"]:
        return "a duration, as in `90s` or `1h30m`"
    if "pattern" in schema:
        return f"`{schema['pattern']}`"
    bounds = []
    if "minimum" in schema:
        bounds.append(f"{'above' if schema.get('exclusiveMinimum') else 'from'} {schema['minimum']}")
    if "maximum" in schema:
        bounds.append(f"up to {schema['maximum']}")
    if "maxItems" in schema:
        bounds.append(f"at most {schema['maxItems']}")
    return " ".join(bounds)
