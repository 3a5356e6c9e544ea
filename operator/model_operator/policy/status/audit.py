"""The decisions of a pass for the audit log: who or what decided, about which model, on which evidence. Pure.

As Events, they follow from the old and the new status; unlike Events none is dropped, and they may be long.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from model_operator.api.resource import ModelDeployment
from model_operator.api.status import HistoryEntry, Status
from model_operator.api.times import format_time


def decisions(resource: ModelDeployment, new: Status, now: datetime) -> Iterator[Mapping[str, Any]]:
    """Yield one entry for each rollout that started or ended, and each request of a user that was answered.

    Args:
        resource: with the status before the pass.
        new: the status after it.
    """
    old = resource.status
    about = {
        "time": format_time(now),
        "namespace": resource.key.namespace,
        "name": resource.name,
        "uid": resource.uid,
        "generation": resource.generation,
    }
    for token, answer in new.answers.items():
        if answer != old.answers.get(token):
            yield {
                **about,
                "decision": "RequestAccepted" if answer.is_accepted else "RequestRefused",
                "request": token,
                "revision": answer.revision,
                "user": answer.user,
                "message": answer.message,
            }
    if new.canary and new.canary != old.canary:
        yield {**about, "decision": "Started", "revision": new.canary, "stable": new.stable}
    for entry in reversed(_new_entries(old, new)):
        yield {
            **about,
            "decision": entry.result,
            "reason": entry.reason,
            "revision": entry.revision,
            "version": entry.version,
            "uri": entry.uri,
            "sha256": entry.sha256,
            "user": entry.requested_by,
            "evidence": entry.message,
        }


def _new_entries(old: Status, new: Status) -> list[HistoryEntry]:
    known = {(entry.revision, entry.result, entry.at) for entry in old.history}
    return [entry for entry in new.history if (entry.revision, entry.result, entry.at) not in known]
