"""One leader among many replicas, agreed on through a Lease.

In: a lease's name and this replica's identity. Out: ``run(lead)`` runs ``lead`` while this replica leads. A replica
that cannot renew for ``renew_seconds`` stops leading (``lead`` is cancelled, ``LeadershipLost`` raised) before another
may take over after ``lease_seconds``; expiry is judged by this machine's monotonic clock from when a change of the
lease was last seen, so wall clocks need not agree.

Source: client-go ``tools/leaderelection``, 1.36.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any

from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api.errors import ApiError, NotFound
from anynode.api.formats import format_micro_time
from anynode.api.objects import Object, ObjectKey, get_path
from anynode.api.resources import known
from anynode.client.api_client import ApiClient

logger = logging.getLogger(__name__)

LEASES = known("leases", "coordination.k8s.io")
JITTER = 1.2
RELEASE_SECONDS = 5.0


class LeadershipLost(Exception):
    """The lease could not be renewed in time, or somebody else holds it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ElectionTimes:
    lease_seconds: int = 15
    renew_seconds: float = 10.0
    retry_seconds: float = 2.0


class Elector:
    """This replica's candidacy for one lease."""

    def __init__(
        self,
        client: ApiClient,
        lease: ObjectKey,
        identity: str,
        *,
        clock: Clock,
        chance: random.Random,
        times: ElectionTimes | None = None,
    ) -> None:
        self.identity = identity
        self._client = client
        self._lease = lease
        self._clock = clock
        self._chance = chance
        self._times = times or ElectionTimes()
        self._seen: Object | None = None
        self._seen_at = 0.0
        self._leading = False

    @property
    def leading(self) -> bool:
        return self._leading

    @property
    def leader(self) -> str:
        """Who held the lease when it was last read."""
        return self._holder() if self._seen is not None else ""

    async def run(self, lead: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Wait to lead, then run ``lead``; returns when it returns. Raises ``LeadershipLost``.

        When ``lead`` is cancelled or done the lease is given back, so that another replica need not wait.
        """
        while not await self._try_hold():
            await self._clock.sleep(self._times.retry_seconds * (1 + self._chance.random() * JITTER))
        logger.info("leadership acquired", extra={"lease": str(self._lease), "identity": self.identity})
        self._leading = True
        try:
            async with Supervisor("election", clock=self._clock) as tasks:
                tasks.start("renew", self._renew)
                await lead()
        finally:
            self._leading = False
            await self._release()

    async def _renew(self) -> None:
        renewed_at = self._clock.monotonic()
        while True:
            await self._clock.sleep(self._times.retry_seconds)
            left_seconds = renewed_at + self._times.renew_seconds - self._clock.monotonic()
            try:
                async with asyncio.timeout(max(left_seconds, 0.0)):  # a server that hangs must not keep us leading
                    held = await self._try_hold()
            except TimeoutError:
                held = False
            if held:
                renewed_at = self._clock.monotonic()
            elif left_seconds <= 0 or self._clock.monotonic() - renewed_at >= self._times.renew_seconds:
                raise LeadershipLost(f"lease {self._lease} was not renewed in {self._times.renew_seconds} s")

    async def _try_hold(self) -> bool:
        """Whether this replica holds the lease now."""
        try:
            return await self._hold()
        except (ApiError, ConnectionError, TimeoutError) as error:
            logger.debug("lease not held", extra={"lease": str(self._lease)}, exc_info=error)
            return False

    async def _hold(self) -> bool:
        timestamp = format_micro_time(self._clock.now())
        spec: Object = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._times.lease_seconds,
            "acquireTime": timestamp,
            "renewTime": timestamp,
            "leaseTransitions": 0,
        }
        try:
            current = await self._client.get(LEASES, self._lease)
        except NotFound:
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"namespace": self._lease.namespace, "name": self._lease.name},
                "spec": spec,
            }
            self._see(await self._client.create(LEASES, lease))
            return True
        self._see(current)
        held = current.get("spec") or {}
        holder = self._holder()
        transitions = held.get("leaseTransitions") or 0
        if holder == self.identity:
            spec = {**spec, "acquireTime": held.get("acquireTime") or timestamp, "leaseTransitions": transitions}
        elif holder and self._clock.monotonic() < self._seen_at + self._duration(held):
            return False
        else:
            spec = {**spec, "leaseTransitions": transitions + 1}
        self._see(await self._client.update(LEASES, {**current, "spec": {**held, **spec}}))
        return True

    async def _release(self) -> None:
        """Give the lease back if it is still ours; another replica takes it at its next try."""
        if self._seen is None or self._holder() != self.identity:
            return
        timestamp = format_micro_time(self._clock.now())
        held = self._seen.get("spec") or {}
        spec = {**held, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": timestamp}
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._client.update(LEASES, {**self._seen, "spec": spec})
        except (ApiError, ConnectionError, TimeoutError) as error:
            logger.debug("lease not released", extra={"lease": str(self._lease)}, exc_info=error)

    def _see(self, lease: Object) -> None:
        if self._seen is None or self._seen.get("spec") != lease.get("spec"):
            self._seen_at = self._clock.monotonic()
        self._seen = lease

    def _holder(self) -> str:
        return str(get_path(self._seen or {}, "spec", "holderIdentity", default=""))

    def _duration(self, held: Object) -> float:
        return float(held.get("leaseDurationSeconds") or self._times.lease_seconds)
