"""The status of a pod from the states of its containers, as a kubelet writes it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from model_sandbox.client import Obj
from model_sandbox.controllers.base import stamp, status_of, with_condition


@dataclass(slots=True)
class ContainerState:
    """What is known of one container. `waiting` is (reason, message) while nothing runs."""

    name: str
    image: str
    container_id: str = ""
    waiting: tuple[str, str] = ("ContainerCreating", "")
    running_since: datetime | None = None
    terminated: Obj | None = None
    last: Obj | None = None
    restarts: int = 0
    started: bool = False
    ready: bool = False

    @property
    def has_succeeded(self) -> bool:
        """Whether it ended well."""
        return self.terminated is not None and self.terminated["exitCode"] == 0

    def end(self, code: int, now: datetime, message: str, reason: str = "") -> None:
        """It ended, or could not be started."""
        terminated: Obj = {"exitCode": code, "reason": reason or ("Error" if code else "Completed")}
        terminated |= {"startedAt": stamp(self.running_since or now), "finishedAt": stamp(now)}
        terminated |= {"containerID": self.container_id, **({"message": message} if message else {})}
        self.terminated, self.running_since, self.started, self.ready = terminated, None, False, False

    def body(self) -> Obj:
        """The entry of `containerStatuses`."""
        reason, message = self.waiting
        state: Obj = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        if self.running_since is not None:
            state = {"running": {"startedAt": stamp(self.running_since)}}
        elif self.terminated is not None:
            state = {"terminated": self.terminated}
        return {
            "name": self.name,
            "state": state,
            "lastState": {"terminated": self.last} if self.last else {},
            "ready": self.ready,
            "restartCount": self.restarts,
            "image": self.image,
            "imageID": f"sandbox://{self.image}" if self.container_id else "",
            "containerID": self.container_id,
            "started": self.started,
        }


def phase(policy: str, inits: Sequence[ContainerState], containers: Sequence[ContainerState]) -> str:
    """Pending, Running, Succeeded or Failed."""
    for one in inits:
        if not one.has_succeeded:
            return "Failed" if one.terminated is not None and policy == "Never" else "Pending"
    ended = [one.terminated or one.last for one in containers if one.running_since is None]
    if None in ended:
        return "Pending"
    if len(ended) < len(containers) or policy == "Always":
        return "Running"
    if all(one is not None and one["exitCode"] == 0 for one in ended):
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def pod_status(
    pod: Obj,
    host_ip: str,
    pod_ip: str,
    containers: Sequence[ContainerState],
    inits: Sequence[ContainerState] = (),
    *,
    now: datetime,
) -> Obj:
    """The status, as a merge patch of what a node writes."""
    current = phase(pod["spec"].get("restartPolicy", "Always"), inits, containers)
    status: Obj = {
        "phase": current,
        "conditions": _conditions(pod, current, containers, inits, now),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "podIP": pod_ip,
        "podIPs": [{"ip": pod_ip}],
        "startTime": status_of(pod).get("startTime") or stamp(now),
        "containerStatuses": [one.body() for one in containers],
    }
    return {**status, **({"initContainerStatuses": [one.body() for one in inits]} if inits else {})}


def _conditions(
    pod: Obj, current: str, containers: Sequence[ContainerState], inits: Sequence[ContainerState], now: datetime
) -> list[Obj]:
    held: list[Obj] = status_of(pod).get("conditions") or []
    waiting = [one.name for one in inits if not one.has_succeeded]
    unready = [one.name for one in containers if not one.ready]
    because = "PodCompleted" if current == "Succeeded" else "ContainersNotReady"
    ready = not unready, because, f"containers with unready status: [{' '.join(unready)}]"
    told = f"containers with incomplete status: [{' '.join(waiting)}]"
    table = {
        "PodReadyToStartContainers": (True, "", ""),
        "Initialized": (not waiting, "ContainersNotInitialized", told),
        "Ready": ready,
        "ContainersReady": ready,
        "PodScheduled": (True, "", ""),
    }
    for kind, (good, reason, message) in table.items():
        held = with_condition(held, kind, good, *((None, "") if good else (reason, message)), now=now)
    order = [*table]
    return sorted(held, key=lambda one: order.index(one["type"]) if one["type"] in order else len(order))
