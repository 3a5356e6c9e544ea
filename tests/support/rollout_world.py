"""A world in which the operator's engine lives: virtual time, a cluster in memory, and sudden death.

`World.run` alternates between the operator and the cluster until nothing happens any more. After each
write the invariants of the rollout are asserted.

With `with_deaths` the world asks at each of its writes: what if the operator died right here? It goes
back to where the operator last rested, lets it die after that write, lets a new one start from what the
cluster has, and demands that it comes to rest in the very state that the undisturbed one reached.
From equal states equal stories follow, so nothing beyond that point has to be played again. (Death
before a write leaves the cluster as death after the write before it.)
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from model_operator.api.activation import Bound, Demand, Routes
from model_operator.api.analysis import MetricSource
from model_operator.api.hooks import GateAnswer, WebhookEndpoint
from model_operator.api.replay import RecordedRequests, ReplayCounts
from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.api.shadow import Prediction, ShadowRequest, ShadowResponse
from model_operator.api.status import status_from_body, status_to_body
from model_operator.api.steps import Replay
from model_operator.api.values import replace
from model_operator.api.version import KIND
from model_operator.clients.metrics_page import Sample
from model_operator.clients.pod_metrics import Start
from model_operator.engine.activation import Activation
from model_operator.engine.cache import Cache
from model_operator.engine.events import EventRecorder
from model_operator.engine.gate_poller import GatePoller
from model_operator.engine.metrics_collector import MetricsCollector
from model_operator.engine.notifier import Notifier
from model_operator.engine.queue import WorkQueue
from model_operator.engine.reconcile import Reconciler
from model_operator.engine.replayer import Replayer
from model_operator.engine.retraining import Retrainer
from model_operator.engine.startup_events import StartupEvents
from model_operator.errors import ApiError, ProviderError
from model_operator.manifests.pod_policy import PodPolicy
from model_operator.manifests.pods import PodSettings
from model_operator.observation.values import ActivatorView
from model_operator.policy.admission import Admission
from model_operator.ports import ActivatorPod
from model_operator.testing import InMemoryCluster, VirtualClock, is_pod_ready, snapshot

Body = Mapping[str, Any]
TICK = timedelta(seconds=1)


class Killed(BaseException):
    """The operator died. A BaseException, so that no handler of ours swallows it."""


class CountingPods:
    """Pods whose counters tests set, by the part of the pod's name that names its revision."""

    def __init__(self) -> None:
        self.samples: dict[str, Sample] = {}
        #: Those of single pods, by name.
        self.by_pod: dict[str, Sample] = {}
        self.starts: dict[str, Start] = {}
        #: The models whose token was sent, None for those that were asked without one.
        self.tokens: set[ObjectKey | None] = set()

    async def start(self, url: str) -> Start | None:
        return next((start for revision, start in self.starts.items() if f"-{revision}-" in url), None)

    async def read(self, url: str, token_of: ObjectKey | None = None) -> Sample | None:
        self.tokens.add(token_of)
        own = next((sample for name, sample in self.by_pod.items() if f"/{name}:" in url), None)
        return own or next((sample for revision, sample in self.samples.items() if f"-{revision}-" in url), None)


class GivenPredictions:
    """Pods that tell what a test says, by revision; an error is what a revision's pods fail with."""

    def __init__(self) -> None:
        self.told: dict[str, list[Prediction] | ProviderError] = {}
        self.asked: list[tuple[str, ShadowRequest, str]] = []

    async def api_key(self, namespace: str, secret_name: str) -> str:
        return f"key of {secret_name}"

    def token(self, key: ObjectKey) -> str:
        return f"token of {key.name}"

    async def ask(self, url: str, question: ShadowRequest, api_key: str) -> ShadowResponse:
        self.asked.append((url, question, api_key))
        found = next((told for revision, told in self.told.items() if f"-{revision}-" in url), [])
        if isinstance(found, ProviderError):
            raise found
        since = len(found) if question.after is None else question.after[0]
        return ShadowResponse(cursor=(len(found),), predictions=tuple(found[since:]))


class GivenReplays:
    """Pods of stable that have kept `recorded` requests, each, and pods of a canary that answer as `counts` says."""

    def __init__(self) -> None:
        self.recorded: int | ProviderError = 0
        self.counts: ReplayCounts | ProviderError = ReplayCounts(requests=0, agreed=0)
        self.asked: list[tuple[str, int, str]] = []
        self.compared: list[tuple[str, int]] = []

    def token(self, key: ObjectKey) -> str:
        return f"token of {key.name}"

    async def requests(self, url: str, *, size: int, seconds: float, answer: int, token: str) -> RecordedRequests:
        self.asked.append((url, size, token))
        if isinstance(self.recorded, ProviderError):
            raise self.recorded
        return RecordedRequests(kept=self.recorded, requests=(b"{}",) * min(answer, self.recorded))

    async def compare(self, url: str, step: Replay, sample: Sequence[bytes], *, token: str) -> ReplayCounts:
        self.compared.append((url, len(sample)))
        if isinstance(self.counts, ProviderError):
            raise self.counts
        return self.counts


class GivenValues:
    """Answers guards with what a test says."""

    def __init__(self) -> None:
        self.answer: float | ProviderError | None = None
        self.asked: list[MetricSource] = []

    async def value(self, source: MetricSource, namespace: str) -> float | None:
        self.asked.append(source)
        if isinstance(self.answer, ProviderError):
            raise self.answer
        return self.answer


class GivenHooks:
    """Gates that are as open as a test says, and a memory of what was told."""

    def __init__(self) -> None:
        self.is_open = False
        self.asked: list[Body] = []
        self.told: list[Body] = []

    async def ask(self, address: WebhookEndpoint, namespace: str, body: Body) -> GateAnswer:
        self.asked.append(body)
        return GateAnswer(is_open=self.is_open, message="" if self.is_open else "not before eight")

    async def notify(self, address: WebhookEndpoint, namespace: str, body: Body) -> None:
        self.told.append(body)


class GivenActivators:
    """Activators as a test says: none, or some that listen for every model and hold as many requests as it says."""

    def __init__(self) -> None:
        self.endpoints: tuple[str, ...] | None = ()
        self.is_installed = False
        self.held = 0

    async def find(self) -> Sequence[ActivatorPod]:
        return ()

    async def tell(self, url: str, routes: Routes) -> Bound:
        raise ProviderError("it is not there")

    async def demand(self, url: str, after: int) -> Demand:
        raise ProviderError("it is not there")


class Standby(Activation):
    """The ports of models are real, the exchange with the activators is not."""

    def __init__(self, cache: Cache, queue: WorkQueue, activators: GivenActivators) -> None:
        super().__init__(cache, queue, activators)
        self._given = activators

    def view(self, resource: ModelDeployment) -> ActivatorView:
        found = super().view(resource)
        if not found.port:
            return found
        return replace(found, endpoints=self._given.endpoints, held=self._given.held)


def _plain(schema: Any) -> Any:
    """Return a structural schema as JSON Schema."""
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if not key.startswith("x-kubernetes")}
    return [_plain(one) for one in schema] if isinstance(schema, list) else schema


_CRD = yaml.safe_load((Path(__file__).parents[2] / "crds/modeldeployments.yaml").read_text())
#: What an API server lets into `status`.
STATUS = Draft202012Validator(_plain(_CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]))


class World:
    def __init__(self, *, with_deaths: bool = False, pod_policy: PodPolicy | None = None) -> None:
        self.pod_policy = pod_policy or PodPolicy()
        self.clock = VirtualClock()
        self.cluster = InMemoryCluster(self.clock)
        self.cluster.before_write = self._before
        self.cluster.after_write = self._after
        self.writes = 0
        self.deaths = 0
        self.log: list[str] = []
        self.reached: list[tuple[str, str]] = []
        self._with_deaths = with_deaths
        self._die_after: int | None = None
        self._front_before: set[str] = set()
        self._pass_writes: list[tuple[str, Body, Body | None]] = []
        self.start_operator()

    # --- the operator ---------------------------------------------------------------------------

    def start_operator(self) -> None:
        self.cache, self.queue = Cache(), WorkQueue()
        self.settings = getattr(self, "settings", PodSettings(image="server"))
        admission = Admission(settings=self.settings, pods=self.pod_policy)
        self._told: dict[Any, Body] = {}
        self.pods = getattr(self, "pods", CountingPods())
        self.values = getattr(self, "values", GivenValues())
        self.missing: set[str] = set()
        self.predictions = getattr(self, "predictions", GivenPredictions())
        self.evidence = evidence = MetricsCollector(
            self.cache, self.queue, self.pods, self.predictions, self.values, self.clock
        )
        self.recorder = EventRecorder(self.cluster, self.clock, "test")
        self.starts = StartupEvents(self.cache, self.pods, self.recorder, self.clock)
        self.hooks = getattr(self, "hooks", GivenHooks())
        self.gatekeeper = GatePoller(self.cache, self.queue, self.hooks, self.clock)
        self.replays = getattr(self, "replays", GivenReplays())
        self.replayer = Replayer(self.cache, self.queue, self.replays, self.clock)
        self.notifier = Notifier(self.hooks, self.clock)
        self.retrainer = Retrainer(self.cache, self.queue, self.cluster, self.pods, self.hooks, self.clock, admission)
        self.activators = getattr(self, "activators", GivenActivators())
        self.activation = Standby(self.cache, self.queue, self.activators)
        self.reconciler = Reconciler(
            self.cluster,
            self.cache,
            evidence,
            self.recorder,
            self.clock,
            self.settings,
            self.missing,
            self.gatekeeper,
            self.replayer,
            self.notifier,
            self.retrainer,
            self.activation,
            admission,
            self.starts,
        )
        self.wake_at: datetime | None = self.clock.now()

    def sync(self) -> bool:
        """Bring the caches up to date, as watches do; return whether anything that counts is new."""
        is_new = False
        self.missing.clear()
        self.missing.update(self.cluster.missing_kinds)
        # Stored objects are replaced and never changed: what is the very same one was told before.
        for identity, body in self._told.items():
            now = self.cluster.objects.get(identity)
            if now is None or now["metadata"]["uid"] != body["metadata"]["uid"]:
                is_new |= self.cache.remove(snapshot(body)) is not None
        for identity, body in self.cluster.objects.items():
            if self._told.get(identity) is not body:
                is_new |= self.cache.upsert(snapshot(body)) is not None
        self._told = dict(self.cluster.objects)
        return is_new

    async def operate(self, key: ObjectKey) -> None:
        """Let the operator look until it has nothing to do right now."""
        start = self._save()
        first_write = self.writes
        await self._come_to_rest(key)
        if not self._with_deaths or self.writes == first_write:
            return
        rest, log, wake_at = self._save(), list(self.log), self.wake_at
        undisturbed = self._state()
        for deadly in range(first_write + 1, self.writes + 1):
            self._restore(start)
            self.writes, self._die_after = first_write, deadly
            self.start_operator()
            await self._come_to_rest(key)
            assert self._die_after is None, f"the operator was not killed at write {deadly}"
            changes = difference(undisturbed, self._state())
            assert not changes, "\n".join([f"death after write {deadly} changed the end:", *changes, *log])
            self.deaths += 1
        self._restore(rest)
        self.log, self.wake_at, self.writes = log, wake_at, first_write + (rest[2] - start[2])
        self.start_operator()
        self.wake_at = wake_at

    async def _come_to_rest(self, key: ObjectKey) -> None:
        for _ in range(200):
            self.sync()
            await self.gatekeeper.poll()
            await self.replayer.poll()
            self._pass_writes = []
            try:
                again = await self.reconciler.reconcile(key)
            except Killed:
                self.start_operator()
                continue
            except ApiError as error:
                if not (error.is_absent or error.is_conflict):
                    raise
                continue
            self._check_pass()
            asked = self.evidence.asked(key)
            await self.evidence.settle()
            if again != timedelta(0) and self.evidence.asked(key) == asked:
                self.wake_at = self.clock.now() + again if again else None
                return
        raise AssertionError("the operator does not come to rest:\n" + "\n".join(self.log[-30:]))

    def _save(self) -> tuple[dict[Any, Any], int, int]:
        """Stored objects are replaced and never changed, so a copy of the table is a copy of the cluster."""
        return dict(self.cluster.objects), self.cluster.version, self.writes

    def _restore(self, saved: tuple[dict[Any, Any], int, int]) -> None:
        objects, version, _ = saved
        self.cluster.objects, self.cluster.version = dict(objects), version

    def _state(self) -> dict[Any, Any]:
        """What counts: every object but for its versions."""
        unstable = ("resourceVersion", "generation", "uid", "ownerReferences")
        return {
            identity: {**body, "metadata": {k: v for k, v in body["metadata"].items() if k not in unstable}}
            for identity, body in self.cluster.objects.items()
        }

    async def run(self, key: ObjectKey, *, until: Callable[["World"], bool] | None = None, seconds: int = 3600) -> None:
        """Let time pass until a condition holds, or until nothing happens and no clock runs."""
        for _ in range(seconds):
            await self.operate(key)
            self.cluster.tick()
            self._check_state()
            if until is not None and until(self):
                return
            is_new = self.sync()
            if until is None and not is_new and self.wake_at is None and not self._is_starting():
                return
            self.clock.advance(self._time_to_skip(is_new))
        if until is not None:
            raise AssertionError(f"it never came to that: {self.status(key)}\n" + "\n".join(self.log[-40:]))
        raise AssertionError(f"the world does not come to rest: {self.status(key)}\n" + "\n".join(self.log[-40:]))

    async def turn(self, key: ObjectKey, turns: int) -> None:
        """Let so many seconds pass, whatever happens in them."""
        for _ in range(turns):
            await self.operate(key)
            self.cluster.tick()
            self._check_state()
            self.clock.advance(TICK)

    def _time_to_skip(self, is_new: bool) -> timedelta:
        """One second while something happens; else until the operator's own clock rings, or a minute at most."""
        if is_new or self.wake_at is None or self._is_starting():
            return TICK
        return min(max(self.wake_at - self.clock.now(), TICK), timedelta(minutes=1))

    def _is_starting(self) -> bool:
        """Whether there is a pod so young that it may become ready without anybody's doing."""
        born = [datetime.fromisoformat(pod["metadata"]["creationTimestamp"]) for pod in self.cluster.of_kind("Pod")]
        return any(self.clock.now() - moment < 3 * TICK for moment in born)

    def status(self, key: ObjectKey) -> Body:
        return self.cluster.get(KIND, key).get("status") or {}

    # --- sudden death ---------------------------------------------------------------------------

    def _before(self, verb: str, body: Body) -> None:
        self._front_before = self._ready_behind_front(body) if body.get("kind") == "Service" else set()
        self._live_before = self._live(body)
        self.writes += 1

    def _after(self, verb: str, body: Body) -> None:
        self.log.append(_line(verb, body))
        self._pass_writes.append((verb, snapshot(body), self._live_before))
        self._check_write(body)
        if self.writes == self._die_after:
            self._die_after = None
            raise Killed

    # --- invariants (design: rollout) -----------------------------------------------------------

    def _check_write(self, body: Body) -> None:
        if body["kind"] == KIND and body.get("status"):
            status = body["status"]
            STATUS.validate(status)
            if "phase" in status:  # what is said of an invalid spec is written beside it
                assert status_to_body(status_from_body(status)) == status, "a status is read back as it was written"
            pair = (status.get("phase", ""), status.get("step", ""))
            if not self.reached or self.reached[-1] != pair:
                self.reached.append(pair)
        if body["kind"] == "Service" and body["metadata"]["name"] == self._only_resource()["metadata"]["name"]:
            remaining = self._ready_behind_front(body)
            lost, needed = self._front_before - remaining, self._only_resource()["spec"].get("replicas", 1)
            suffices = bool(self._only_resource()["status"].get("canaryRevision")) and len(remaining) >= needed
            assert not lost or suffices, f"a change of the front selector took ready pods away: {lost}"
        if body["kind"] == "HTTPRoute":
            self._check_route(body)

    def _check_route(self, route: Body) -> None:
        status = self._only_resource()["status"]
        weights = {ref["name"]: ref["weight"] for ref in route["spec"]["rules"][-1]["backendRefs"]}
        name = route["metadata"]["name"]
        canary = f"{name}-{status['canaryRevision']}" if status.get("canaryRevision") else ""
        applied = status.get("weights", {}).get("applied", 0)
        assert weights.get(canary, 0) == applied, "a weight was written that status does not have"
        with_weight = [backend for backend, weight in weights.items() if weight]
        stable = f"{name}-{status['stableRevision']}"
        assert set(with_weight) <= {stable, canary}, "a third revision has weight"
        if applied:
            assert self._ready(status["canaryRevision"]), "weight for a canary without a ready pod"

    def _check_pass(self) -> None:
        """At most one weight change in a pass, and never together with a scale-down."""
        changes, shrinks = 0, False
        for _, body, before in self._pass_writes:
            if body["kind"] == "HTTPRoute" and before is not None:
                changes += _weights(body) != _weights(before)
            if body["kind"] == "Deployment" and before is not None:
                shrinks |= body["spec"]["replicas"] < before["spec"]["replicas"]
        assert changes <= 1, "two weight changes in one pass"
        assert not (changes and shrinks), "a weight change together with a scale-down"

    def _check_state(self) -> None:
        """Stable keeps the capacity for its weight, and whoever serves is reachable."""
        for resource in self.cluster.of_kind(KIND):
            status = resource.get("status") or {}
            stable = status.get("stableRevision")
            if not stable or status["phase"] in ("Pending", "Degraded"):
                continue
            wanted = resource["spec"].get("replicas", 1)
            weight = status.get("weights", {}).get("applied", 0)
            deployment = self.cluster.objects.get(("Deployment", "default", f"{resource['metadata']['name']}-{stable}"))
            if deployment is not None and status["phase"] in ("Progressing", "Paused", "RollingBack"):
                missing = resource["spec"]["strategy"].get("canary", {}).get("maxUnavailable", 0)
                least = math.floor(wanted * (100 - weight) / 100) - missing
                assert deployment["spec"]["replicas"] >= least, f"stable was shrunk below its weight: {status}"

    def _ready_behind_front(self, service: Body) -> set[str]:
        live = self._live(service)
        if live is None:
            return set()
        selector = live["spec"]["selector"].items()
        return {
            pod["metadata"]["name"]
            for pod in self.cluster.of_kind("Pod")
            if selector <= pod["metadata"]["labels"].items() and is_pod_ready(pod)
        }

    def _ready(self, revision: str) -> int:
        return sum(is_pod_ready(pod) for pod in self.cluster.pods(revision))

    def _live(self, body: Body) -> Body | None:
        if "kind" not in body:
            return None
        found = self.cluster.objects.get((body["kind"], "default", body["metadata"]["name"]))
        return snapshot(found) if found is not None else None

    def _only_resource(self) -> Body:
        (resource,) = self.cluster.of_kind(KIND)
        return resource


def difference(one: Any, other: Any, where: str = "") -> list[str]:
    """Return a line for each place in which two values differ."""
    if one == other:
        return []
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other}, key=str)
        return [line for key in keys for line in difference(one.get(key), other.get(key), f"{where}/{key}")]
    return [f"{where}: {one!r} became {other!r}"]


def _weights(route: Body) -> Body:
    weights = {ref["name"]: ref["weight"] for ref in route["spec"]["rules"][-1]["backendRefs"]}
    return {name: weight for name, weight in weights.items() if weight}


def _line(verb: str, body: Body) -> str:
    status = body.get("status") or {}
    if body["kind"] == KIND:
        keys = ("phase", "step", "stableRevision", "canaryRevision", "weights", "message")
        return f"{verb} status { ({k: status[k] for k in keys if k in status}) }"
    spec = body.get("spec", {})
    what = spec.get("replicas", spec.get("selector", ""))
    if body["kind"] == "HTTPRoute":
        what = _weights(body)
    return f"{verb} {body['kind']} {body['metadata']['name']} {what}"
