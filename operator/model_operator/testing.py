"""Fakes for tests: a clock that the test sets, and an in-memory cluster with controllers.

`InMemoryCluster` stores objects with uids, versions and generations, and implements the controllers
that a rollout depends on: Deployments create pods, pods become ready after a delay (or never), owned
objects are garbage-collected, gateways accept routes. Tests set the behaviour of revisions by storage URI.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from model_operator.api.json import JsonObject
from model_operator.api.names import EVALUATION, REVISION, REVISION_SPEC
from model_operator.api.resource import ModelDeployment, ObjectKey, ObjectVersion
from model_operator.api.version import API_VERSION, KIND
from model_operator.errors import ApiError


class VirtualClock:
    """A clock that only `advance` moves."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        """Return the time."""
        return self._now

    def advance(self, span: timedelta) -> None:
        """Move the clock forward."""
        self._now += span


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Behaviour of the pods of a revision: seconds until ready (None: never), failure, and results of an evaluation."""

    ready_after: float | None = 1.0
    termination: Mapping[str, Any] | None = None
    waiting: str = ""
    message: str = "from the kubelet"
    restarts: int = 0
    measures: Mapping[str, Any] = field(default_factory=lambda: {"rows": 100, "metrics": {"accuracy": 0.95}})


@dataclass(slots=True)
class InMemoryCluster:
    """A cluster; `tick` runs its controllers once. `before_write` is called before each write and may raise."""

    clock: VirtualClock
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    missing_kinds: set[str] = field(default_factory=set)
    gateways_accept: bool = True
    autoscalers_wish: int = 1
    before_write: Callable[[str, Mapping[str, Any]], None] = lambda _verb, _body: None
    after_write: Callable[[str, Mapping[str, Any]], None] = lambda _verb, _body: None
    objects: dict[tuple[str, str, str], JsonObject] = field(default_factory=dict)
    events: list[Mapping[str, Any]] = field(default_factory=list)
    version: int = 0

    # --- actions of users - ---------------------------------------------------------------------

    def create(self, name: str, spec: Mapping[str, Any], namespace: str = "default") -> ObjectKey:
        """Create a ModelDeployment."""
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, "namespace": namespace, "annotations": {}},
            "spec": copy.deepcopy(dict(spec)),
        }
        self._store(body)
        return ObjectKey(namespace, name)

    def change(self, key: ObjectKey, patch: Callable[[JsonObject], None]) -> None:
        """Change a ModelDeployment's spec or annotations."""
        self.overwrite(KIND, key, patch)

    def overwrite(self, kind: str, key: ObjectKey, patch: Callable[[JsonObject], None]) -> None:
        """Change any object, as a user with kubectl does."""
        body = copy.deepcopy(self.get(kind, key))
        patch(body)
        self._store(body)

    def remove(self, key: ObjectKey) -> None:
        """Delete a ModelDeployment, and all objects that it owns."""
        body = self.objects.pop((KIND, *key))
        self.collect(body["metadata"]["uid"])

    def get(self, kind: str, key: ObjectKey) -> JsonObject:
        """Return an object.

        Raises:
            KeyError: it does not exist."""
        return self.objects[(kind, *key)]

    def of_kind(self, kind: str) -> list[JsonObject]:
        """Return all objects of a kind, by name."""
        return [body for (stored, _, _), body in sorted(self.objects.items()) if stored == kind]

    # --- what the operator does (ports.Cluster) -------------------------------------------------

    async def apply_new(self, body: Mapping[str, Any]) -> JsonObject:
        """Apply an object that must not exist."""
        metadata = body["metadata"]
        if (body["kind"], metadata["namespace"], metadata["name"]) in self.objects:
            raise ApiError(409, "Conflict", "the object has been modified")
        return await self.apply(body)

    async def apply(self, body: Mapping[str, Any]) -> JsonObject:
        """Apply an object with force."""
        self.before_write("apply", body)
        if body["kind"] in self.missing_kinds:
            raise ApiError(404, "NotFound", f"no kind {body['kind']}")
        metadata = body["metadata"]
        existing = self.objects.get((body["kind"], metadata["namespace"], metadata["name"]))
        merged = dict(body)
        if existing is not None:
            merged["status"] = existing.get("status", {})
            merged["metadata"] = {**existing["metadata"], **merged["metadata"]}
        stored = self._store(merged)
        self.after_write("apply", stored)
        return snapshot(stored)

    async def find(self, kind: str, key: ObjectKey) -> JsonObject | None:
        """Return an object, or None if it does not exist."""
        return self.objects.get((kind, *key))

    async def delete(self, kind: str, key: ObjectKey, uid: str) -> None:
        """Delete an object of this uid."""
        body = self.objects.get((kind, *key))
        if body is None or body["metadata"]["uid"] != uid:
            return
        self.before_write("delete", body)
        del self.objects[(kind, *key)]
        self.collect(uid)
        self.after_write("delete", body)

    async def patch_status(self, resource: ModelDeployment | ObjectVersion, patch: Mapping[str, Any]) -> JsonObject:
        """Merge into the status."""
        return self._patch("patch-status", resource, {"status": patch})

    async def patch_spec(self, resource: ModelDeployment, patch: Mapping[str, Any]) -> JsonObject:
        """Merge into the spec."""
        return self._patch("patch", resource, patch)

    async def post_event(self, body: Mapping[str, Any]) -> None:
        """Store an Event."""
        self.events.append(body)

    def _patch(self, verb: str, resource: ModelDeployment | ObjectVersion, patch: Mapping[str, Any]) -> JsonObject:
        existing = self.objects.get((KIND, *resource.key))
        if existing is None:
            raise ApiError(404, "NotFound", f"no {resource.key.name}")
        if existing["metadata"]["resourceVersion"] != resource.resource_version:
            raise ApiError(409, "Conflict", "the object has been modified")
        self.before_write(verb, patch)
        stored = self._store(merge(dict(existing), patch))
        self.after_write(verb, stored)
        return snapshot(stored)

    # --- what the cluster does ------------------------------------------------------------------

    def tick(self) -> None:
        """Run the controllers once."""
        for autoscaler in self.of_kind("HorizontalPodAutoscaler"):
            self._run_autoscaler(autoscaler)
        for deployment in self.of_kind("Deployment"):
            self._run_deployment(deployment)
        for job in self.of_kind("Job"):
            self._run_job(job)
        for route in self.of_kind("HTTPRoute"):
            self._answer_route(route)

    def fail_pods(self, revision: str, behaviour: Behaviour) -> None:
        """Fail the pods of a revision, as if their processes ended."""
        for pod in self.pods(revision):
            self._store({**pod, "status": pod_status(behaviour, pod, ready=False)})

    def pods(self, revision: str) -> list[JsonObject]:
        """Return the pods of a revision that have not ended."""
        return [
            pod
            for pod in self.of_kind("Pod")
            if pod["metadata"]["labels"].get(REVISION) == revision
            and (pod.get("status") or {}).get("phase") not in ("Failed", "Succeeded")
        ]

    def _run_autoscaler(self, autoscaler: JsonObject) -> None:
        spec = autoscaler["spec"]
        identity = ("Deployment", autoscaler["metadata"]["namespace"], spec["scaleTargetRef"]["name"])
        deployment = self.objects.get(identity)
        # As the real autoscaler, which is disabled for a Deployment with 0 replicas.
        if deployment is None or not deployment["spec"]["replicas"]:
            return
        replicas = min(max(self.autoscalers_wish, spec["minReplicas"]), spec["maxReplicas"])
        self._store({**deployment, "spec": {**deployment["spec"], "replicas": replicas}})

    def _run_deployment(self, deployment: JsonObject) -> None:
        metadata = deployment["metadata"]
        revision = metadata["labels"][REVISION]
        pods, replicas = self.pods(revision), deployment["spec"]["replicas"]
        for number in range(len(pods), replicas):
            self._start_pod(deployment, number)
        for pod in pods[replicas:]:
            del self.objects[("Pod", metadata["namespace"], pod["metadata"]["name"])]
        behaviour = self._behaviour(deployment)
        for pod in self.pods(revision):
            self._run_pod(pod, behaviour)
        ready = sum(is_pod_ready(pod) for pod in self.pods(revision))
        status = {
            "observedGeneration": metadata["generation"],
            "replicas": replicas,
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        self._store({**deployment, "status": status})

    def _run_job(self, job: JsonObject) -> None:
        """Start the pod at the first tick, and complete it at the second with the results of its model."""
        metadata, template = job["metadata"], job["spec"]["template"]
        if EVALUATION not in metadata["labels"]:
            return  # a Job of the user, which is not simulated
        identity = ("Pod", metadata["namespace"], f"{metadata['name']}-0")
        pod = self.objects.get(identity)
        if pod is None:
            labels = dict(template["metadata"]["labels"])
            owner = {"uid": metadata["uid"], "kind": "Job", "name": metadata["name"]}
            about = {"name": identity[2], "namespace": identity[1], "labels": labels, "ownerReferences": [owner]}
            about["creationTimestamp"] = self.clock.now().isoformat()
            status = {"conditions": [{"type": "Ready", "status": "True"}]}
            self._store({"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": {}, "status": status})
            return
        environment = {entry["name"]: entry.get("value") for entry in template["spec"]["containers"][0]["env"]}
        uri = environment["MODEL_SERVER_STORAGE_URI"] or ""
        said = self.behaviours.get(uri, Behaviour()).measures
        ended = {"exitCode": 0 if "metrics" in said else 65, "message": json.dumps(said)}
        conditions = [{"type": "Ready", "status": "False"}]
        container = {"name": "evaluate", "state": {"terminated": ended}}
        self._store({**pod, "status": {"conditions": conditions, "containerStatuses": [container]}})
        kind = "Complete" if "metrics" in said else "Failed"
        self._store({**job, "status": {"conditions": [{"type": kind, "status": "True", "reason": kind}]}})

    def _behaviour(self, deployment: JsonObject) -> Behaviour:
        source = json.loads(deployment["metadata"]["annotations"][REVISION_SPEC])
        return self.behaviours.get(source["model"]["storageUri"], Behaviour())

    def _start_pod(self, deployment: JsonObject, number: int) -> None:
        metadata, template = deployment["metadata"], deployment["spec"]["template"]
        name = f"{metadata['name']}-{number}"
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": metadata["namespace"],
                "labels": dict(template["metadata"]["labels"]),
                "ownerReferences": [{"uid": metadata["uid"], "kind": "Deployment", "name": metadata["name"]}],
                "creationTimestamp": self.clock.now().isoformat(),
            },
            "spec": {},
        }
        self._store({**pod, "status": pod_status(Behaviour(), pod, ready=False)})

    def _run_pod(self, pod: JsonObject, behaviour: Behaviour) -> None:
        age = self.clock.now() - datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
        is_up = behaviour.ready_after is not None and age.total_seconds() >= behaviour.ready_after
        self._store({**pod, "status": pod_status(behaviour, pod, ready=is_up)})

    def _answer_route(self, route: JsonObject) -> None:
        accepted = "True" if self.gateways_accept else "False"
        conditions = [
            {
                "type": type_,
                "status": accepted,
                "reason": "Accepted" if self.gateways_accept else "NotAllowedByListeners",
                "message": "",
                "observedGeneration": route["metadata"]["generation"],
            }
            for type_ in ("Accepted", "ResolvedRefs")
        ]
        parents = [{"parentRef": ref, "conditions": conditions} for ref in route["spec"]["parentRefs"]]
        self._store({**route, "status": {"parents": parents}})

    def collect(self, uid: str) -> None:
        """Delete owned objects, as the garbage collector does."""
        for identity, body in list(self.objects.items()):
            owners = {reference["uid"] for reference in body["metadata"].get("ownerReferences", ())}
            if uid in owners and self.objects.pop(identity, None) is not None:
                self.collect(body["metadata"]["uid"])

    def _store(self, body: JsonObject) -> JsonObject:
        metadata = body["metadata"]
        identity = (body["kind"], metadata["namespace"], metadata["name"])
        existing = self.objects.get(identity)
        if existing is not None and _content(existing) == _content(body):
            return existing
        self.version += 1
        version = str(self.version)
        is_new_spec = existing is None or existing.get("spec") != body.get("spec")
        generation = (existing["metadata"]["generation"] if existing else 0) + int(is_new_spec)
        body["metadata"] = {
            **metadata,
            "uid": existing["metadata"]["uid"] if existing else f"uid-{version}",
            "resourceVersion": version,
            "generation": generation,
        }
        self.objects[identity] = body
        return body


def snapshot(body: Mapping[str, Any]) -> JsonObject:
    """Copy an object as deep as its readers modify it; stored objects are never modified."""
    return {**body, "metadata": dict(body["metadata"])}


def _content(body: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = {k: v for k, v in body["metadata"].items() if k not in ("resourceVersion", "generation", "uid")}
    return {**body, "metadata": metadata}


def merge(body: JsonObject, patch: Mapping[str, Any]) -> JsonObject:
    """Return a value with a JSON merge patch (RFC 7386) merged in; the top level is changed in place."""
    for key, value in patch.items():
        if value is None:
            body.pop(key, None)
        elif isinstance(value, Mapping):
            inner = body.get(key)
            body[key] = merge(dict(inner) if isinstance(inner, Mapping) else {}, value)
        else:
            body[key] = value
    return body


def pod_status(behaviour: Behaviour, pod: Mapping[str, Any], *, ready: bool) -> JsonObject:
    """Return the status that the kubelet would write; the pod's name stands for its address."""
    running = {"startedAt": pod["metadata"]["creationTimestamp"]}
    container: JsonObject = {"name": "server", "ready": ready, "restartCount": behaviour.restarts}
    container["state"] = {"running": running}
    if behaviour.termination is not None and not ready:
        message = json.dumps(behaviour.termination)
        container["lastState"] = {"terminated": {"exitCode": 65, "reason": "Error", "message": message}}
        container["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    elif behaviour.waiting and not ready:
        container["state"] = {"waiting": {"reason": behaviour.waiting, "message": behaviour.message}}
    return {
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "containerStatuses": [container],
        "podIP": pod["metadata"]["name"],
    }


def is_pod_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])
