"""The verdicts on versions of a registered model, as tags of these versions in their registry. Pure."""

from collections.abc import Mapping, Sequence

from model_operator.api.resource import ModelDeployment
from model_operator.api.source import VersionTags, registered_model
from model_operator.api.status import HistoryEntry
from model_operator.api.times import format_time

_PREFIX = "modeldeploy."
#: The longest value; MLflow takes 5000 characters.
_LONGEST = 4000


def verdicts(resource: ModelDeployment) -> Sequence[VersionTags]:
    """Return the tags of each version in the history, by its newest rollout; the last rollout comes first.

    The history is in the status, which is written before anything follows from it: whoever comes after a restart, or
    after an outage of the registry, finds all verdicts there.
    """
    newest: dict[tuple[str, str], VersionTags] = {}
    for entry in resource.status.history:
        registered = registered_model(entry.uri)
        version = (registered.version or entry.version) if registered else ""
        # A pod says which version it has loaded, and may say anything.
        if registered is None or not registered.may_be(version):
            continue
        tags = VersionTags(
            name=registered.name, version=version, tags=_tags(resource, entry), registry=registered.registry
        )
        newest.setdefault((tags.name, tags.version), tags)
    return tuple(newest.values())


def _tags(resource: ModelDeployment, entry: HistoryEntry) -> Mapping[str, str]:
    values = {
        "reason": entry.reason,
        "message": entry.message or entry.reason,
        "revision": entry.revision,
        "deployment": f"{resource.key.namespace}/{resource.name}",
        "at": format_time(entry.at),
        "status": entry.result.lower(),
    }
    return {f"{_PREFIX}{name}": value[:_LONGEST] for name, value in values.items()}
