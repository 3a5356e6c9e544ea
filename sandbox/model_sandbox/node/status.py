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


@dataclass(frozen=True, slots=True)
class PodState:
    """All that a pod's status is made of."""

    pod: Obj
    host_ip: str
    pod_ip: str
    started: datetime
    inits: Sequence[ContainerState] = ()
    containers: Sequence[ContainerState] = ()


def pod_status(state: PodState, now: datetime) -> Obj:
    """The status, as a merge patch of what a node writes."""
    spec, before = state.pod["spec"], status_of(state.pod)
    current = phase(spec.get("restartPolicy", "Always"), state.inits, state.containers)
    status: Obj = {
        "phase": current,
        "conditions": _conditions(state, current, now),
        "hostIP": state.host_ip,
        "hostIPs": [{"ip": state.host_ip}],
        "podIP": state.pod_ip,
        "podIPs": [{"ip": state.pod_ip}],
        "startTime": before.get("startTime") or stamp(state.started),
        "containerStatuses": [one.body() for one in state.containers],
    }
    if state.inits:
        status["initContainerStatuses"] = [one.body() for one in state.inits]
    return status


def _conditions(state: PodState, current: str, now: datetime) -> list[Obj]:
    held: list[Obj] = status_of(state.pod).get("conditions") or []
    waiting = [one.name for one in state.inits if not one.has_succeeded]
    unready = [one.name for one in state.containers if not one.ready]
    because = "PodCompleted" if current == "Succeeded" else "ContainersNotReady"
    ready = not unready, because, f"containers with unready status: [{' '.join(unready)}]"
    good = {one["type"] for one in held if one["status"] == "True"}
    gates = {gate["conditionType"] for gate in state.pod["spec"].get("readinessGates") or []} - good
    told = {
        "PodReadyToStartContainers": (True, "", ""),
        "Initialized": (
            *(not waiting, "ContainersNotInitialized"),
            f"containers with incomplete status: [{' '.join(waiting)}]",
        ),
        "Ready": ready,
        "ContainersReady": ready,
        "PodScheduled": (True, "", ""),
    }
    if gates and not unready:
        told["Ready"] = (False, "ReadinessGatesNotReady", f"readiness gates not met: {', '.join(sorted(gates))}")
    for kind, (state_, reason, message) in told.items():
        held = with_condition(held, kind, state_, None if state_ else reason, "" if state_ else message, now=now)
    order = [*told]
    return sorted(held, key=lambda one: order.index(one["type"]) if one["type"] in order else len(order))
