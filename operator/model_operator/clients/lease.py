"""Leader election on a Lease (coordination.k8s.io/v1): one PUT for each renewal, released on a clean stop.

As in client-go, clocks of different machines are never compared: a standby takes over when it has observed
no renewal for the duration of the Lease by its own clock.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime

from kubernetes.aio.client import V1Lease, V1LeaseSpec, V1ObjectMeta

from model_operator.clients.kubernetes import KubernetesClient
from model_operator.errors import ApiError

log = logging.getLogger(__name__)


class LeaderLease:
    """One candidate for one Lease. Times in seconds."""

    def __init__(
        self,
        client: KubernetesClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        duration: float = 15.0,
        renew: float = 5.0,
        poll: float = 1.0,
    ) -> None:
        self._client, self._namespace, self._name, self._identity = client, namespace, name, identity
        self._duration, self._renew, self._poll = duration, renew, poll
        self._held: V1Lease | None = None
        self._observed: tuple[str | None, datetime | None] | None = None
        self._observed_at = 0.0

    async def acquire(self) -> None:
        """Wait until this candidate holds the Lease."""
        while True:
            try:
                if await self._try():
                    return
            except ApiError as error:
                is_routine = error.is_conflict or error.is_unreachable
                log.log(logging.DEBUG if is_routine else logging.WARNING, "lease: %s", error)
            await asyncio.sleep(self._poll)

    async def hold(self) -> None:
        """Renew the Lease; return as soon as this candidate may have lost it."""
        renewed = time.monotonic()
        while time.monotonic() - renewed < self._duration * 2 / 3:
            await asyncio.sleep(self._renew)
            try:
                async with asyncio.timeout(self._renew):
                    await self._put(self._renewed(self._held))
                renewed = time.monotonic()
            except ApiError as error:
                if error.is_conflict or error.is_absent:
                    log.warning("lease: another candidate wrote it: %s", error)
                    return
                log.warning("lease: not renewed: %s", error)
            except TimeoutError:
                log.warning("lease: not renewed within %s s", self._renew)

    async def release(self) -> None:
        """Release the Lease, so that a standby takes over at once."""
        if self._held is None:
            return
        spec = self._renewed(self._held)
        spec.holder_identity, spec.lease_duration_seconds = "", 1
        try:
            await self._put(spec)
        except ApiError as error:
            log.warning("lease: not released: %s", error)
        self._held = None

    async def _try(self) -> bool:
        try:
            found = await self._client.read_lease(self._namespace, self._name)
        except ApiError as error:
            if not error.is_absent:
                raise
            lease = V1Lease(metadata=V1ObjectMeta(name=self._name), spec=self._renewed(None))
            self._held = await self._client.create_lease(self._namespace, lease)
            return True
        if not self._is_free(found.spec or V1LeaseSpec()):
            return False
        self._held = found
        try:
            await self._put(self._taken_over(found))
        except ApiError:
            self._held = None
            raise
        return True

    def _is_free(self, spec: V1LeaseSpec) -> bool:
        if (spec.holder_identity, spec.renew_time) != self._observed:
            self._observed, self._observed_at = (spec.holder_identity, spec.renew_time), time.monotonic()
        if not spec.holder_identity or spec.holder_identity == self._identity:
            return True
        return time.monotonic() - self._observed_at > (spec.lease_duration_seconds or self._duration)

    def _renewed(self, held: V1Lease | None) -> V1LeaseSpec:
        before, now = (held.spec if held else None) or V1LeaseSpec(), _now()
        return V1LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=round(self._duration),
            acquire_time=before.acquire_time or now,
            renew_time=now,
            lease_transitions=before.lease_transitions or 0,
        )

    def _taken_over(self, found: V1Lease) -> V1LeaseSpec:
        spec = self._renewed(found)
        spec.acquire_time, spec.lease_transitions = spec.renew_time, (spec.lease_transitions or 0) + 1
        return spec

    async def _put(self, spec: V1LeaseSpec) -> None:
        lease = self._held or V1Lease(metadata=V1ObjectMeta(name=self._name))
        lease.spec = spec
        self._held = await self._client.replace_lease(self._namespace, self._name, lease)


def _now() -> datetime:
    """Return the time with microseconds: the API server rejects a MicroTime without them."""
    now = datetime.now(UTC)
    return now.replace(microsecond=max(now.microsecond, 1))
