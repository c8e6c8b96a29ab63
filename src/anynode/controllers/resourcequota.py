"""ResourceQuotas say what their namespace uses: counted anew when limits change, objects go, and every five minutes.

Admission charges what comes; this controller counts what is there. A kind of object is watched from the moment a quota
limits it. Source: kubernetes ``pkg/controller/resourcequota``, ``pkg/quota/v1/install/update_filter.go``, 1.36.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping

from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api import pod_amounts, quota_usage
from anynode.api.errors import NotFound
from anynode.api.objects import Object, ObjectKey, get_path, key_of, namespace_of
from anynode.api.quota_usage import Evaluator, evaluator_of
from anynode.api.resources import Resource, known
from anynode.controllers.context import ControllerContext
from anynode.controllers.pods import PODS
from anynode.controllers.served_kinds import Kinds, Look, ServedKinds
from anynode.informers.controller import Done, Outcome, RequeueAfter
from anynode.informers.informer import Delta, Handler, Informer, InformerFactory, identity

QUOTAS = known("resourcequotas")
DEVICE_CLASSES = known("deviceclasses", "resource.k8s.io")
DEVICE_CLAIMS = known("resourceclaims", "resource.k8s.io")
RESYNC_SECONDS = 300.0
SETTLE_SECONDS = 0.3
"""How long what admission has just charged may be on its way into storage and the mirrors."""
MOST_SETTLE_SECONDS = 5.0


class Cluster:
    """What usage depends on beside an object, read from mirrors."""

    def __init__(self, informers: InformerFactory, clock: Clock) -> None:
        self._clock = clock
        self._informers = informers

    def now(self) -> datetime.datetime:
        return self._clock.now()

    def device_classes(self) -> Iterable[Object]:
        return self._informers.informer(DEVICE_CLASSES).store.list()

    def pod(self, namespace: str, name: str) -> Object | None:
        return self._informers.informer(PODS).store.get(ObjectKey(namespace, name))

    def device_claims(self, namespace: str) -> Iterable[Object]:
        return self._informers.informer(DEVICE_CLAIMS).store.list(namespace)


class ResourceQuotaController:
    """Keeps ``status.hard`` and ``status.used`` of every quota."""

    def __init__(self, context: ControllerContext, *, ask: Look | None = None) -> None:
        """``ask`` replaces asking the server what it serves."""
        self._context = context
        self._client = context.client
        self._clock = context.clock
        self._informers = context.informers
        self._cluster = Cluster(context.informers, context.clock)
        self._quotas = context.informers.informer(QUOTAS)
        self._classes = context.informers.informer(DEVICE_CLASSES)
        self._kinds: dict[str, Resource] = {}
        self._evaluators: dict[str, Evaluator] = {}
        self._watched: dict[str, tuple[Informer, Handler]] = {}
        self._served = ServedKinds(context, "resourcequota", self.resync, ask=ask)
        self._charged: dict[ObjectKey, float] = {}
        self._lowering: dict[ObjectKey, float] = {}
        """When admission last charged a quota, and since when a lower count waits for it to be over."""
        self._controller = context.controller("resourcequota", self.reconcile)
        self._quotas.subscribe(self._quota_changed)

    async def run(self) -> None:
        for informer in (self._quotas, self._classes):
            await informer.wait_synced()
        async with Supervisor("resourcequota", clock=self._clock) as tasks:
            tasks.start("discovery", self._served.run)
            tasks.start("resync", self._resync)
            await tasks.start("workers", self._controller.run)

    def resync(self, kinds: Kinds) -> None:
        """Know the kinds served by now; a quota that limits a new one is counted anew."""
        wanted: dict[str, Resource] = {}
        for resource in kinds.values():
            countable = resource.namespaced and {"create", "list", "watch", "delete"} <= set(resource.verbs)
            if countable and resource.qualified not in quota_usage.IGNORED:
                wanted[resource.qualified] = resource
        for qualified, known_as in tuple(self._kinds.items()):
            if qualified not in wanted or identity(wanted[qualified]) != identity(known_as):
                self._leave(qualified)
        new = wanted.keys() - self._kinds.keys()
        for qualified in new:
            self._evaluators[qualified] = evaluator_of(qualified, self._cluster)
        self._kinds = wanted
        if new:
            for quota in self._quotas.store.list():
                self._controller.queue.add(key_of(quota))

    def _leave(self, qualified: str) -> None:
        """Count this kind no more."""
        del self._kinds[qualified], self._evaluators[qualified]
        watched = self._watched.pop(qualified, None)
        if watched is not None:
            informer, handler = watched
            informer.unsubscribe(handler)
            self._informers.release(informer)

    async def _resync(self) -> None:
        while True:
            await self._clock.sleep(RESYNC_SECONDS)
            for quota in self._quotas.store.list():
                self._controller.queue.add(key_of(quota))

    def _quota_changed(self, delta: Delta) -> None:
        key = key_of(delta.obj)
        if delta.kind == "deleted":
            self._charged.pop(key, None)
            self._lowering.pop(key, None)
            return
        self._charged[key] = self._clock.monotonic()
        old_hard = get_path(delta.old or {}, "spec", "hard")
        if delta.kind == "added" or get_path(delta.obj, "spec", "hard") != old_hard:
            self._controller.queue.add(key)

    def _handler(self, evaluator: Evaluator) -> Callable[[Delta], None]:
        """Counts anew, where an object went or weighs less, the quotas it may have weighed on."""

        def handle(delta: Delta) -> None:
            freed = delta.kind == "deleted" or (
                delta.kind == "modified" and delta.old is not None and evaluator.frees(delta.obj, delta.old)
            )
            if not freed:
                return
            for quota in self._quotas.store.list(namespace_of(delta.obj)):
                if evaluator.concerned(get_path(quota, "status", "hard", default={})):
                    self._controller.queue.add(key_of(quota))

        return handle

    def _watching(self, qualified: str, evaluator: Evaluator) -> Informer:
        found = self._watched.get(qualified)
        if found is None:
            found = self._informers.informer(self._kinds[qualified]), self._handler(evaluator)
            self._watched[qualified] = found
            found[0].subscribe(found[1])
        return found[0]

    async def reconcile(self, key: ObjectKey) -> Outcome:
        quota = self._quotas.store.get(key)
        if quota is None:
            return Done()
        if not self._kinds:
            return RequeueAfter(0.1)  # what is served is not known yet
        hard: Mapping[str, str] = get_path(quota, "spec", "hard", default={})
        concerned = [
            (evaluator, self._watching(qualified, evaluator))
            for qualified, evaluator in self._evaluators.items()
            if evaluator.concerned(hard)
        ]
        if not all(informer.synced for _, informer in concerned):
            return RequeueAfter(0.1)
        found = quota_usage.calculated(
            quota, [(evaluator, informer.store.list(key.namespace)) for evaluator, informer in concerned]
        )
        status = quota.get("status") or {}
        before = status.get("used")
        used = {name: text for name, text in (before or {}).items() if name in hard}
        used.update({name: str(amount) for name, amount in found.items()})
        same_used = before is not None and pod_amounts.parsed(used) == pod_amounts.parsed(before)
        if same_used and status.get("hard") is not None and status["hard"] == hard:
            self._lowering.pop(key, None)
            return Done()
        if status.get("hard") == hard and self._may_be_on_its_way(key, used, before or {}):
            return RequeueAfter(SETTLE_SECONDS)
        self._lowering.pop(key, None)
        try:
            await self._client.update(
                QUOTAS, {**quota, "status": {"hard": dict(hard), "used": used}}, subresource="status"
            )
        except NotFound:
            return Done()
        return Done()

    def _may_be_on_its_way(self, key: ObjectKey, used: Mapping[str, str], before: Mapping[str, str]) -> bool:
        """Whether a count lower than what was charged should wait: objects just admitted may not be seen yet."""
        now = self._clock.monotonic()
        known, counted = pod_amounts.parsed(before), pod_amounts.parsed(used)
        if not any(name in known and amount < known[name] for name, amount in counted.items()):
            return False
        if now - self._charged.get(key, now) >= SETTLE_SECONDS:
            return False
        return now - self._lowering.setdefault(key, now) < MOST_SETTLE_SECONDS
