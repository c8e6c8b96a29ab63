"""The servers of one store, as each of them sees the others.

Every server keeps a Lease ``apiserver-<hash>`` in kube-system and renews it. A lease that was not seen to change for
``DEAD_SECONDS`` (by this machine's monotonic clock) is a dead server's. From the living follow the ``kubernetes``
endpoints, which every server brings in order, and the keeper: the first of the living by name, who alone does what one
server should do at a time (expiring events, compacting, repairing). Two keepers for a moment do no harm.

Source: kubernetes ``pkg/controlplane/controller/{leasecontroller,apiserverleasegc}``, ``pkg/controlplane/reconcilers``.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import logging
import random
import socket
import uuid
from collections.abc import Mapping, Sequence

from anynode.aio.clock import Clock
from anynode.api.errors import ApiError
from anynode.api.formats import format_micro_time
from anynode.api.objects import Object, get_path, meta
from anynode.apiserver.bootstrap import SELF, Bootstrap
from anynode.apiserver.served import Served
from anynode.registry.deletion import DeleteOptions
from anynode.registry.store import Write
from anynode.storage.types import StorageError

logger = logging.getLogger(__name__)

NAMESPACE = "kube-system"
IDENTITY = {"apiserver.kubernetes.io/identity": "kube-apiserver"}
ENDPOINT = "apiserver.anynode.dev/endpoint"
RENEW_SECONDS = 5.0
DEAD_SECONDS = 15.0
LEASE_SECONDS = 3600


@dataclasses.dataclass(slots=True)
class _Seen:
    """What a lease said last, and when it was first heard saying so."""

    renewed: str
    moment: float


class Replicas:
    """This server among those that share its store; ``run`` as a task, ``leave`` at the end."""

    def __init__(
        self,
        served: Mapping[tuple[str, str, str], Served],
        bootstrap: Bootstrap,
        *,
        endpoint: str,
        clock: Clock,
        random: random.Random,
    ) -> None:
        """``endpoint``: ``host:port``, by which the others tell this server apart."""
        self._leases = served["coordination.k8s.io", "v1", "leases"].store
        self._bootstrap = bootstrap
        self._endpoint = endpoint
        self._clock = clock
        self.name = identity_of(endpoint)
        self._holder = f"{self.name}_{uuid.UUID(int=random.getrandbits(128), version=4)}"
        self._seen: dict[str, _Seen] = {}
        self._alive: dict[str, str] = {}

    @property
    def is_keeper(self) -> bool:
        """Whether this server does what one of them does."""
        return min(self._alive, default="") == self.name

    @property
    def endpoints(self) -> Sequence[str]:
        """``host:port`` of the living."""
        return sorted(self._alive.values())

    async def run(self) -> None:
        """Renew and look around, for ever."""
        while True:
            try:
                await self.step()
            except (ApiError, StorageError) as error:
                logger.warning("this server's lease was not renewed and will be", exc_info=error)
            await self._clock.sleep(RENEW_SECONDS)

    async def step(self) -> None:
        """Once."""
        await self._renew()
        self._look()
        if self.is_keeper:
            await self._bury()
        await self._bootstrap.publish(self.endpoints)

    async def leave(self) -> None:
        """Tell the others that this server goes: its lease and its endpoint go at once."""
        try:
            await self._leases.delete(f"{NAMESPACE}/{self.name}", DeleteOptions(), Write(user=SELF))
            self._alive.pop(self.name, None)
            if self._alive:
                await self._bootstrap.publish(self.endpoints)
        except (ApiError, StorageError) as error:
            logger.warning("the other servers learn later that this one ended", exc_info=error)

    async def _renew(self) -> None:
        def renewed(old: Object | None) -> Object:
            kept = meta(old) if old is not None else {}
            return {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {
                    **kept,
                    "name": self.name,
                    "namespace": NAMESPACE,
                    "labels": {**IDENTITY, "kubernetes.io/hostname": socket.gethostname()},
                    "annotations": {ENDPOINT: self._endpoint},
                },
                "spec": {
                    "holderIdentity": self._holder,
                    "leaseDurationSeconds": LEASE_SECONDS,
                    "renewTime": format_micro_time(self._clock.now()),
                },
            }

        write = Write(user=SELF, manager="kube-apiserver", durable=False)
        await self._leases.update(f"{NAMESPACE}/{self.name}", renewed, write, force_create=True)

    def _look(self) -> None:
        """Learn who lives."""
        now, seen, alive = self._clock.monotonic(), dict[str, _Seen](), dict[str, str]()
        for item in self._leases.cache.scan(f"{NAMESPACE}/apiserver-"):
            endpoint = (meta(item.peek()).get("annotations") or {}).get(ENDPOINT)
            if not endpoint or item.labels.get("apiserver.kubernetes.io/identity") != "kube-apiserver":
                continue
            renewed = str(get_path(item.peek(), "spec", "renewTime", default=""))
            before = self._seen.get(item.name)
            seen[item.name] = before if before and before.renewed == renewed else _Seen(renewed, now)
            if now - seen[item.name].moment < DEAD_SECONDS or item.name == self.name:
                alive[item.name] = endpoint
        self._seen, self._alive = seen, alive

    async def _bury(self) -> None:
        """Remove leases nobody renewed for their whole duration."""
        now = self._clock.monotonic()
        for name, seen in self._seen.items():
            if now - seen.moment >= LEASE_SECONDS:
                await self._leases.delete(f"{NAMESPACE}/{name}", DeleteOptions(), Write(user=SELF))


def identity_of(endpoint: str) -> str:
    """``apiserver-`` and a hash of where the server is: several may run on one machine."""
    digest = hashlib.sha256(endpoint.encode()).digest()[:16]
    return "apiserver-" + base64.b32encode(digest).decode().rstrip("=").lower()
