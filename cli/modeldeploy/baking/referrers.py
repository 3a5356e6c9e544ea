"""Attaches a document to an image: an artifact whose subject is the image, which clients find as its referrer.

Registries that know referrers list it by themselves; for others the list is an index under a tag, which clients write.
https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema
"""

from __future__ import annotations

from typing import Any

from modeldeploy.baking.image import INDEX, MANIFEST, Blob, blob_of, read_document
from modeldeploy.baking.registry import Repository

_EMPTY = Blob(media_type="application/vnd.oci.empty.v1+json", content=b"{}")
_TITLE = "org.opencontainers.image.title"


def attach(repository: Repository, image: Blob, document: Blob, title: str) -> str:
    """Store a document as a referrer of an image; returns its digest. Raises Refused."""
    repository.put_document(_EMPTY)
    repository.put_document(document)
    manifest = blob_of(
        MANIFEST,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": document.media_type,
            "config": _EMPTY.descriptor,
            "layers": [{**document.descriptor, "annotations": {_TITLE: title}}],
            "subject": image.descriptor,
        },
    )
    answer = repository.put_manifest(manifest.digest, manifest)
    if "oci-subject" not in answer:
        _list(repository, image, {**manifest.descriptor, "artifactType": document.media_type})
    return manifest.digest


def _list(repository: Repository, image: Blob, entry: dict[str, Any]) -> None:
    """Add an entry to the image's index of referrers, unless it is there."""
    tag = image.digest.replace(":", "-")
    index = repository.manifest(tag)
    known = read_document(index.content, tag).get("manifests") if index else []
    entries = known if isinstance(known, list) else []
    if not any(isinstance(one, dict) and one.get("digest") == entry["digest"] for one in entries):
        listed = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*entries, entry]}
        repository.put_manifest(tag, blob_of(INDEX, listed))
