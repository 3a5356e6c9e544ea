"""The bill of materials of a model package, in CycloneDX 1.6. Pure: the same package gives the same bytes.

Written as plain values: `cyclonedx-python-lib`, the library of the field, has no model cards and no data sets yet
(its issue 912). The tests validate the result with that library's own schemas.
https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from modeldeploy.bom.facts import Dataset, Document, Package
from modeldeploy.bom.fields import Fields, fields_of, properties_of, text_of, without_empty, words_of
from modeldeploy.bom.model_card import data_reference, model_card
from modeldeploy.bom.requirements import Library
from modeldeploy.package.signing import SIGNATURE

MEDIA_TYPE = "application/vnd.cyclonedx+json"
_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"


def bom_of(
    package: Package,
    datasets: Sequence[Dataset] = (),
    evaluation: Document | None = None,
    *,
    tool_version: str,
    made_at: datetime | None = None,
) -> str:
    """Return the document, as JSON that ends with a line break.

    Args:
        datasets: data that the model was trained with.
        evaluation: what `python -m model_server evaluate` wrote.
        tool_version: version of this program.
        made_at: a time to write down, by which documents of the same package would differ.

    Raises:
        Refused: model.yaml has a field of another type than the model server reads.
    """
    model = f"model:{package.sha256}"
    libraries = package.libraries or ()
    datasets = list({data_reference(one): one for one in datasets}.values())
    tool = {"type": "application", "name": "modeldeploy", "version": tool_version}
    document: Fields = {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            **({"timestamp": made_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")} if made_at else {}),
            "tools": {"components": [tool]},
            "component": _model(package, model, datasets, evaluation or {}),
        },
        "components": [*_files(package.files), *map(_library, libraries), *_data(datasets)],
        "dependencies": [
            {"ref": model, "dependsOn": list(map(_reference, libraries))},
            *({"ref": _reference(library)} for library in libraries),
        ],
    }
    # By what the document says, so that it changes when and only when that does.
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(document, sort_keys=True))
    head = {name: document.pop(name) for name in ("$schema", "bomFormat", "specVersion")}
    whole = {**head, "serialNumber": f"urn:uuid:{serial}", **document}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _model(package: Package, reference: str, datasets: Sequence[Dataset], evaluation: Document) -> Fields:
    metadata, card = package.metadata, package.card
    licenses = [{"license": {"name": str(card["license"])}}] if card.get("license") else None
    return without_empty(
        {
            "type": "machine-learning-model",
            "bom-ref": reference,
            "name": words_of(metadata, "name") or package.name,
            "version": words_of(metadata, "version"),
            "description": words_of(metadata, "description"),
            "licenses": licenses,
            "externalReferences": list(_signature(package)),
            "properties": properties_of({"sha256": package.sha256, "format": _format(package), **_mlflow(package)}),
            "modelCard": model_card(package, datasets, evaluation),
        }
    )


def _data(datasets: Iterable[Dataset]) -> Iterator[Fields]:
    for dataset in datasets:
        content: Fields = {"type": "dataset", "name": dataset.name}
        if dataset.url:
            content |= {"contents": {"url": dataset.url}}
        yield without_empty(
            {
                "type": "data",
                "bom-ref": data_reference(dataset),
                "name": dataset.name,
                "hashes": [_hash(dataset.sha256)] if dataset.sha256 else None,
                "data": [content],
            }
        )


def _files(files: Mapping[str, str]) -> Iterator[Fields]:
    for name, sha256 in files.items():
        yield {"type": "file", "bom-ref": f"file:{quote(name)}", "name": name, "hashes": [_hash(sha256)]}


def _library(library: Library) -> Fields:
    references = []
    if library.url or library.sha256:
        hashes = {"hashes": [_hash(one) for one in library.sha256]} if library.sha256 else {}
        references = [{"type": "distribution", "url": library.url or library.purl, **hashes}]
    written = {"specifier": "" if library.version else library.specifier, "marker": library.marker}
    return without_empty(
        {
            "type": "library",
            "bom-ref": _reference(library),
            "name": library.name,
            "version": library.version,
            "purl": library.purl,
            "externalReferences": references,
            "properties": properties_of(written),
        }
    )


def _reference(library: Library) -> str:
    return library.purl + (f"#{quote(library.marker)}" if library.marker else "")


def _signature(package: Package) -> Iterator[Fields]:
    if SIGNATURE in package.files:
        material = fields_of(package.signature, "verificationMaterial")
        by = "a key" if "publicKey" in material else "an identity"
        yield {
            "type": "digital-signature",
            "url": SIGNATURE,
            "comment": f"Signature of the other files by {by}: a Sigstore bundle in the OpenSSF model signing format",
            "hashes": [_hash(package.files[SIGNATURE])],
        }


def _format(package: Package) -> str:
    told = words_of(package.metadata, "format")
    if told and told != "auto":
        return told
    flavors = [name for name in fields_of(package.mlmodel, "flavors") if name != "python_function"]
    return f"mlflow ({flavors[0]})" if flavors else ""


def _mlflow(package: Package) -> Mapping[str, str]:
    named = {name: package.mlmodel.get(name) for name in ("mlflow_version", "model_uuid", "run_id")}
    return {f"mlflow:{name}": text_of(value) for name, value in named.items() if value}


def _hash(sha256: str) -> Fields:
    return {"alg": "SHA-256", "content": sha256}
