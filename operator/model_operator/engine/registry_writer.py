"""Writes the verdicts on versions of registered models into their registry (`spec.hooks.registry`)."""

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from model_operator.api.hooks import WebhookEndpoint
from model_operator.api.resource import ModelDeployment, ObjectKey
from model_operator.api.source import VersionTags
from model_operator.engine.cache import Cache
from model_operator.engine.concurrency import Poller, chosen
from model_operator.engine.events import EventRecorder
from model_operator.errors import ProviderError
from model_operator.policy.status.events import EventDraft
from model_operator.policy.status.verdicts import verdicts
from model_operator.ports import Clock, Registries

log = logging.getLogger(__name__)

#: Seconds between two searches for verdicts that are not written.
INTERVAL = 2.0
#: Time until the next try after an error; it doubles up to the longest.
_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=15), timedelta(minutes=10)


@dataclass(slots=True)
class _Progress:
    """What this process has written for one resource, and when it tries again after an error."""

    written: dict[tuple[str, str], VersionTags] = field(default_factory=dict)
    wait: timedelta = timedelta(0)
    due: datetime | None = None


class RegistryWriter(Poller):
    """Brings the tags in registries to what the histories say.

    What is written is kept in memory only: after a restart all tags are compared with the registry's once more.
    """

    def __init__(self, cache: Cache, registries: Registries, recorder: EventRecorder, clock: Clock) -> None:
        super().__init__(INTERVAL)
        self._cache, self._registries, self._recorder, self._clock = cache, registries, recorder, clock
        self._progress: dict[ObjectKey, _Progress] = {}

    def _start_due(self) -> None:
        wanted = chosen(self._cache, self._has_hook)
        for key in self._progress.keys() - set(wanted):
            del self._progress[key]
        self._tasks.cancel_except(wanted)
        self._tasks.start([key for key in wanted if self._is_due(key)], self._write)

    def _has_hook(self, key: ObjectKey) -> bool:
        body = self._cache.resource(key) or {}
        return bool((body.get("spec", {}).get("hooks") or {}).get("registry") is not None and body.get("status"))

    def _is_due(self, key: ObjectKey) -> bool:
        due = self._progress.setdefault(key, _Progress()).due
        return due is None or due <= self._clock.now()

    async def _write(self, key: ObjectKey) -> None:
        resource, progress = self._cache.get_valid(key), self._progress[key]
        address = address_of(resource) if resource is not None else None
        if resource is None or address is None:
            return
        for wanted in verdicts(resource):
            if progress.written.get((wanted.name, wanted.version)) == wanted:
                continue
            try:
                await self._registries.write(address, key.namespace, wanted)
            except ProviderError as error:
                self._failed(resource, progress, wanted, error)
                return
            progress.written[wanted.name, wanted.version] = wanted
            progress.wait, progress.due = timedelta(0), None

    def _failed(
        self, resource: ModelDeployment, progress: _Progress, wanted: VersionTags, error: ProviderError
    ) -> None:
        progress.wait = min(max(progress.wait * 2, _FIRST_WAIT), _LONGEST_WAIT)
        progress.due = self._clock.now() + progress.wait
        message = f"the verdict on version {wanted.version} of {wanted.name} is not written: {error}"
        log.warning("%s/%s: %s", *resource.key, message)
        self._recorder.record(resource, EventDraft("VerdictNotWritten", message, is_warning=True))


def address_of(resource: ModelDeployment) -> WebhookEndpoint | None:
    """Return the endpoint of the registry; its URL is empty where the Secret has it. None without the hook."""
    hook, registry = resource.spec.hooks.registry, resource.spec.model.registry
    if hook is None:
        return None
    url = hook.url or (registry.url if registry else "")
    return WebhookEndpoint(url=url, timeout=hook.timeout, secret_name=hook.secret_name)
