"""Whether a revision's Deployment still is what the operator would make of the same spec today.

A newer operator keeps the pod templates of an older one, so that an upgrade restarts no pod; this tells what was kept.
"""

import functools
from collections.abc import Mapping
from typing import Any

import orjson

from model_operator.api.names import NAME, RENDERED_BY, REVISION, TEMPLATE
from model_operator.api.resource import ObjectKey
from model_operator.api.status import ServerInfo
from model_operator.manifests.pods import PodSettings
from model_operator.manifests.workload import rendered_by, revision_template, source_text


def server_info(deployment: Mapping[str, Any], source: Mapping[str, Any], settings: PodSettings) -> ServerInfo:
    """Return which image a revision's server has, and which one a new revision of the same spec would have.

    Args:
        deployment: the live Deployment of the revision.
        source: the part of the spec that the revision was made from.
    """
    metadata = deployment["metadata"]
    annotations = metadata.get("annotations") or {}
    image = _server_image(deployment["spec"]["template"])
    if annotations.get(RENDERED_BY, "") in ("", rendered_by(settings)):
        return ServerInfo(image=image, current_image=image, is_outdated=False)
    labels = metadata["labels"]
    key = ObjectKey(metadata["namespace"], labels[NAME])
    template, current_image = _rendered_now(key, labels[REVISION], source_text(source), settings)
    is_outdated = annotations.get(TEMPLATE) != template
    return ServerInfo(image=image, current_image=current_image, is_outdated=is_outdated)


@functools.lru_cache(maxsize=1024)
def _rendered_now(key: ObjectKey, revision: str, source: str, settings: PodSettings) -> tuple[str, str]:
    """Return the pod template, as text, and the image in it; each pass asks for the same ones."""
    template = revision_template(key, revision, orjson.loads(source), settings)
    return source_text(template), _server_image(template)


def _server_image(template: Mapping[str, Any]) -> str:
    containers = template["spec"].get("containers") or ()
    return next((one.get("image", "") for one in containers if one["name"] == "server"), "")
