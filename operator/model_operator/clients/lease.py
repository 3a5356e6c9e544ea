"""Leader election on a Lease (coordination.k8s.io/v1): one PUT a renewal, given back on a clean stop.

As in client-go, nobody's clock is compared with somebody else's: a standby takes over when it has seen
no renewal for the lease's duration by its own clock.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from model_operator.clients.kinds import LEASE
from model_operator.clients.kubernetes import KubernetesClient
from model_operator.errors import ApiError

log = logging.getLogger(__name__)

Body = dict[str, Any]


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
        self._held: Body | None = None
        self._seen: tuple[Any, Any] | None = None
        self._seen_at = 0.0

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        while True:
            try:
                if await self._try():
                    return
            except ApiError as error:
                log.log(logging.DEBUG if error.is_conflict else logging.WARNING, "lease: %s", error)
            await asyncio.sleep(self._poll)

    async def hold(self) -> None:
        """Renew the Lease; return as soon as it cannot be ours any more."""
        renewed = time.monotonic()
        while time.monotonic() - renewed < self._duration * 2 / 3:
            await asyncio.sleep(self._renew)
            try:
                async with asyncio.timeout(self._renew):
                    await self._put(self._spec(self._held))
                renewed = time.monotonic()
            except ApiError as error:
                if error.is_conflict or error.is_absent:
                    log.warning("lease: somebody else wrote it: %s", error)
                    return
                log.warning("lease: not renewed: %s", error)
            except TimeoutError:
                log.warning("lease: not renewed within %s s", self._renew)

    async def release(self) -> None:
        """Give the Lease back, so that a standby takes over at once."""
        if self._held is None:
            return
        spec = {**self._spec(self._held), "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._put(spec)
        except ApiError as error:
            log.warning("lease: not given back: %s", error)
        self._held = None

    async def _try(self) -> bool:
        try:
            found = await self._client.request("get", LEASE, "GET", LEASE.path(self._namespace, self._name))
        except ApiError as error:
            if not error.is_absent:
                raise
            body = {"metadata": {"name": self._name}, "spec": self._spec(None)}
            path = LEASE.collection(self._namespace)
            self._held = await self._client.request("create", LEASE, "POST", path, body)
            return True
        if not self._is_free(found["spec"]):
            return False
        self._held = found
        try:
            await self._put(self._spec(found, taking_over=True))
        except ApiError:
            self._held = None
            raise
        return True

    def _is_free(self, spec: Mapping[str, Any]) -> bool:
        holder, renewal = spec.get("holderIdentity"), spec.get("renewTime")
        if (holder, renewal) != self._seen:
            self._seen, self._seen_at = (holder, renewal), time.monotonic()
        if not holder or holder == self._identity:
            return True
        duration = float(spec.get("leaseDurationSeconds", self._duration))
        return time.monotonic() - self._seen_at > duration

    def _spec(self, old: Body | None, *, taking_over: bool = False) -> Body:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = old["spec"] if old else {}
        is_new = taking_over or old is None
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._duration),
            "acquireTime": now if is_new else before.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": (before.get("leaseTransitions") or 0) + (1 if taking_over else 0),
        }

    async def _put(self, spec: Mapping[str, Any]) -> None:
        body = {**(self._held or {}), "spec": spec}
        self._held = await self._client.request("update", LEASE, "PUT", LEASE.path(self._namespace, self._name), body)
