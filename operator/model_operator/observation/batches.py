"""What a batch's Job and pods show: shards, rows, and why shards failed. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from model_operator.api.batch import ShardProgress
from model_operator.api.json import Body
from model_operator.observation.pod_failures import most_severe, pod_problem
from model_operator.observation.termination import ShardResult, read_shard
from model_operator.observation.values import PodProblem

#: On the pods of an Indexed Job.
INDEX = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A batch's Job with its pods. `failure` is why a shard failed, the most severe of those that are known."""

    name: str
    started_at: str = ""
    ended_at: str = ""
    #: `Complete`, `Failed`, or empty while the Job goes on; with the reason and the message of Kubernetes.
    outcome: str = ""
    reason: str = ""
    message: str = ""
    is_suspended: bool = False
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    results: Mapping[int, ShardResult] = field(default_factory=dict)
    running: Mapping[int, ShardProgress] = field(default_factory=dict)
    failure: PodProblem | None = None


def view_of(job: Body, pods: Sequence[Body], progress: Mapping[str, ShardProgress]) -> JobView:
    """Return what is known of a Job; `progress` is that of pods by name."""
    status = job.get("status") or {}
    end = next(
        (one for one in _conditions(job) if one["type"] in ("Complete", "Failed") and one["status"] == "True"), {}
    )
    return JobView(
        name=job["metadata"]["name"],
        started_at=status.get("startTime") or "",
        ended_at=status.get("completionTime") or end.get("lastTransitionTime") or "",
        outcome=end.get("type", ""),
        reason=end.get("reason") or "",
        message=end.get("message") or "",
        is_suspended=any(one["type"] == "Suspended" and one["status"] == "True" for one in _conditions(job)),
        active=status.get("active") or 0,
        succeeded=count_indexes(status.get("completedIndexes") or ""),
        failed=count_indexes(status.get("failedIndexes") or ""),
        results=dict(_results(pods)),
        running=dict(_running(pods, progress)),
        failure=most_severe(filter(None, (pod_problem(pod.get("status") or {}) for pod in pods))),
    )


def count_indexes(text: str) -> int:
    """Return how many indexes a Job lists, as in `1,3-5,7`."""
    count = 0
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return count


def _results(pods: Sequence[Body]) -> Iterator[tuple[int, ShardResult]]:
    for pod in pods:
        index = index_of(pod)
        for container in (pod.get("status") or {}).get("containerStatuses") or ():
            ended = (container.get("state") or {}).get("terminated") or {}
            result = read_shard(ended.get("message") or "") if ended.get("exitCode") == 0 else None
            if index is not None and result is not None:
                yield index, result


def _running(pods: Sequence[Body], progress: Mapping[str, ShardProgress]) -> Iterator[tuple[int, ShardProgress]]:
    for pod in pods:
        index, found = index_of(pod), progress.get(pod["metadata"]["name"])
        if index is not None and found is not None and (pod.get("status") or {}).get("phase") == "Running":
            yield index, found


def index_of(pod: Body) -> int | None:
    """Return the shard of a pod."""
    text = str((pod["metadata"].get("labels") or {}).get(INDEX, ""))
    return int(text) if text.isascii() and text.isdecimal() else None


def _conditions(job: Body) -> list[Body]:
    return list((job.get("status") or {}).get("conditions") or ())
