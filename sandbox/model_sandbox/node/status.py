"""The status of a pod from the states of its containers, as a kubelet writes it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from model_sandbox.client import Obj
from model_sandbox.controllers.base import stamp, with_condition


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

    def body(self) -> Obj:
        """The entry of `containerStatuses`."""
        if self.running_since is not None:
            state: Obj = {"running": {"startedAt": stamp(self.running_since)}}
        elif self.terminated is not None:
            state = {"terminated": self.terminated}
        else:
            reason, message = self.waiting
            state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
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


def terminated(
    code: int, started: datetime, finished: datetime, message: str, container_id: str, *, killed_for: str = ""
) -> Obj:
    """The state of a container that ended."""
    reason = killed_for or ("Completed" if code == 0 else "Error")
    body: Obj = {
        "exitCode": code,
        "reason": reason,
        "startedAt": stamp(started),
        "finishedAt": stamp(finished),
        "containerID": container_id,
    }
    if message:
        body["message"] = message
    return body


def phase(policy: str, inits: Sequence[ContainerState], containers: Sequence[ContainerState]) -> str:
    """Pending, Running, Succeeded or Failed."""
    for one in inits:
        if one.terminated is not None and one.terminated["exitCode"] == 0:
            continue
        failed = one.terminated is not None and policy == "Never"
        return "Failed" if failed else "Pending"
    if any(one.running_since is None and one.terminated is None and one.last is None for one in containers):
        return "Pending"
    if any(one.running_since is not None for one in containers) or policy == "Always":
        return "Running"
    ended = [one.terminated or one.last or {} for one in containers]
    if all(one.get("exitCode") == 0 for one in ended):
        return "Succeeded"
    if policy == "Never" or (all(one.terminated is not None for one in containers) and policy == "Never"):
        return "Failed"
    return "Running"


@dataclass(frozen=True, slots=True)
class PodState:
    """All that a pod's status is made of."""

    pod: Obj
    host_ip: str
    pod_ip: str
    started: datetime
    inits: Sequence[ContainerState] = field(default_factory=list)
    containers: Sequence[ContainerState] = field(default_factory=list)


def pod_status(state: PodState, now: datetime) -> Obj:
    """The status, as a merge patch of what a node writes."""
    before = state.pod.get("status") or {}
    current = phase(state.pod["spec"].get("restartPolicy", "Always"), state.inits, state.containers)
    conditions = list(before.get("conditions") or [])
    initialized = all(one.terminated is not None and one.terminated["exitCode"] == 0 for one in state.inits)
    unready = [one.name for one in state.containers if not one.ready]
    told = f"containers with unready status: [{' '.join(unready)}]"
    because = "PodCompleted" if current == "Succeeded" else "ContainersNotReady"
    gates = [gate["conditionType"] for gate in state.pod["spec"].get("readinessGates") or []]
    held = {one["type"] for one in conditions if one["status"] == "True"}
    gated = [gate for gate in gates if gate not in held]

    def put(kind: str, good: bool, reason: str = "", message: str = "") -> None:
        nonlocal conditions
        told = (None, "") if good else (reason, message)
        conditions = with_condition(conditions, kind, good, *told, now=now)

    running = any(one.container_id for one in [*state.inits, *state.containers])
    put("PodReadyToStartContainers", running or bool(state.pod_ip))
    waiting_inits = [one.name for one in state.inits if not (one.terminated and one.terminated["exitCode"] == 0)]
    put(
        "Initialized",
        initialized,
        "ContainersNotInitialized",
        f"containers with incomplete status: [{' '.join(waiting_inits)}]",
    )
    put("ContainersReady", not unready, because, told)
    if gated and not unready:
        put("Ready", False, "ReadinessGatesNotReady", f"readiness gates not met: {', '.join(gated)}")
    else:
        put("Ready", not unready, because, told)
    put("PodScheduled", True)
    order = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
    conditions.sort(key=lambda one: order.index(one["type"]) if one["type"] in order else len(order))
    status: Obj = {
        "phase": current,
        "conditions": conditions,
        "hostIP": state.host_ip,
        "hostIPs": [{"ip": state.host_ip}],
        "podIP": state.pod_ip,
        "podIPs": [{"ip": state.pod_ip}],
        "startTime": stamp(state.started),
        "containerStatuses": [one.body() for one in state.containers],
    }
    if state.inits:
        status["initContainerStatuses"] = [one.body() for one in state.inits]
    return status
