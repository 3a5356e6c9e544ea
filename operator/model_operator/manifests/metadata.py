"""Metadata of every object of the operator: labels, annotations, owner reference, and a hash of the content."""

from collections.abc import Mapping
from typing import Any

from model_operator.api.names import APPLIED_HASH, own_labels
from model_operator.api.resource import ModelDeployment
from model_operator.api.version import API_VERSION, KIND
from model_operator.manifests.drift import content_hash

Body = dict[str, Any]


def owned_object(
    owner: ModelDeployment,
    api_version: str,
    kind: str,
    name: str,
    content: Mapping[str, Any],
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Body:
    """Return an object that belongs to a ModelDeployment.

    Args:
        content: the fields next to metadata, usually `spec`.
        labels: of this object; they win over `spec.commonLabels`.
        annotations: of this object; they win over `spec.commonAnnotations`.

    Garbage collection deletes the object with its owner; it needs no finalizer
    (https://kubernetes.io/docs/concepts/architecture/garbage-collection/#owners-dependents).
    """
    body: Body = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": owner.key.namespace,
            "labels": {**owner.spec.common_labels, **own_labels(owner.name), **(labels or {})},
            "annotations": {**owner.spec.common_annotations, **(annotations or {})},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "name": owner.name,
                    "uid": owner.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        **content,
    }
    body["metadata"]["annotations"][APPLIED_HASH] = content_hash(body)
    return body
