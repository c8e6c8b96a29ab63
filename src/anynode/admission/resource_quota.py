"""ResourceQuota: what a namespace uses stays within its quotas, and a quota's status says so from the same decision on.

In: namespaced writes whose objects are valid. Out: nothing, with the usage of every quota concerned written, or a
refusal. Writes that wait for the same namespace are decided together, each on what the ones before leave, and the
quotas are then replaced once, by compare-and-swap: where another replica was faster, all is decided again. A namespace
without quotas costs one look. Source: apiserver ``pkg/admission/plugin/resourcequota/controller.go``, 1.36.
"""

from __future__ import annotations

import asyncio
import collections
import datetime
from collections.abc import Iterable, Mapping, Sequence

from anynode.admission.chain import Attributes, ListIn, ListObjects, Lookup, Plugin, ReplaceStatus
from anynode.aio.clock import Clock
from anynode.api import objects, pod_amounts, quota_usage, resources
from anynode.api.errors import ApiError, Conflict, NotFound
from anynode.api.formats import Quantity
from anynode.api.objects import Object, ObjectKey
from anynode.api.pod_amounts import Amounts
from anynode.api.quota_usage import ZERO, Evaluator

TRIES = 8
AGAIN_SECONDS = 0.01
"""How long a quota that another replica wrote takes to arrive here, more with each try."""


class Cluster:
    """What usage depends on beside an object, read from what is stored."""

    def __init__(self, lookup: Lookup, list_objects: ListObjects, list_in: ListIn, clock: Clock) -> None:
        self._lookup = lookup
        self._list_objects = list_objects
        self._list_in = list_in
        self._clock = clock
        self._pods = resources.known("pods")
        self._classes = resources.known("deviceclasses", "resource.k8s.io")
        self._claims = resources.known("resourceclaims", "resource.k8s.io")

    def now(self) -> datetime.datetime:
        return self._clock.now()

    def device_classes(self) -> Iterable[Object]:
        return self._list_objects(self._classes)

    def pod(self, namespace: str, name: str) -> Object | None:
        return self._lookup(self._pods, ObjectKey(namespace, name))

    def device_claims(self, namespace: str) -> Iterable[Object]:
        return self._list_in(self._claims, namespace)


class Running:
    """A quota while writes are decided on it: as it was read, and what will be used."""

    __slots__ = ("hard", "quota", "read", "used")

    def __init__(self, quota: Object) -> None:
        status = quota.get("status") or {}
        self.quota = quota
        self.hard = pod_amounts.parsed(status.get("hard"))
        self.read = pod_amounts.parsed(status.get("used"))
        self.used: Amounts = self.read

    @property
    def name(self) -> str:
        return objects.name_of(self.quota)

    def written(self) -> Object:
        """The quota as its status shall be."""
        used = {name: str(amount) for name, amount in self.used.items()}
        return objects.with_path(self.quota, ("status", "used"), used)


class Waiting:
    """A write that waits for the decision of its namespace; ``turn`` tells it to decide, or that it was decided."""

    __slots__ = ("attributes", "decided", "evaluator", "refusal", "turn")

    def __init__(self, attributes: Attributes, evaluator: Evaluator) -> None:
        self.attributes = attributes
        self.evaluator = evaluator
        self.decided = False
        self.refusal: ApiError | None = None
        self.turn = asyncio.Event()

    def decide(self, refusal: ApiError | None = None) -> None:
        self.decided = True
        self.refusal = refusal
        self.turn.set()


class ResourceQuota(Plugin):
    name = "ResourceQuota"
    operations = frozenset({"CREATE", "UPDATE"})

    def __init__(
        self,
        lookup: Lookup,
        list_objects: ListObjects,
        list_in: ListIn,
        replace_status: ReplaceStatus,
        *,
        clock: Clock,
    ) -> None:
        self._list_in = list_in
        self._replace_status = replace_status
        self._clock = clock
        self._cluster = Cluster(lookup, list_objects, list_in, clock)
        self._quotas = resources.known("resourcequotas")
        self._evaluators: dict[str, Evaluator] = {}
        self._waiting: dict[str, collections.deque[Waiting]] = {}
        """By namespace, while somebody decides there: who came meanwhile."""

    async def validate(self, attributes: Attributes) -> None:
        namespace, obj = attributes.namespace, attributes.obj
        if not namespace or obj is None or attributes.resource.plural == "namespaces":
            return
        if not any(True for _ in self._list_in(self._quotas, namespace)):
            return
        qualified = attributes.resource.qualified
        if qualified in quota_usage.IGNORED:
            return
        evaluator = self._evaluators.get(qualified)
        if evaluator is None:
            evaluator = self._evaluators[qualified] = quota_usage.evaluator_of(qualified, self._cluster)
        if evaluator.handles(attributes.operation, attributes.subresource, obj, attributes.old):
            await self._decided(Waiting(attributes, evaluator), namespace)

    async def _decided(self, mine: Waiting, namespace: str) -> None:
        """Return once ``mine`` may be written; who finds nobody deciding decides for all who come meanwhile."""
        queue = self._waiting.get(namespace)
        if queue is not None:
            queue.append(mine)
            try:
                await mine.turn.wait()
            except asyncio.CancelledError:
                if mine in queue:
                    queue.remove(mine)
                elif not mine.decided:
                    self._hand_on(namespace)
                raise
        else:
            queue = self._waiting[namespace] = collections.deque()
        if not mine.decided:
            batch = [mine, *queue]
            queue.clear()
            try:
                await self._decide(batch, namespace)
            finally:
                self._leave(batch, queue)
                self._hand_on(namespace)
        if mine.refusal is not None:
            raise mine.refusal

    def _leave(self, batch: Sequence[Waiting], queue: collections.deque[Waiting]) -> None:
        """Whoever is undecided because the one who decided was cancelled waits on."""
        queue.extendleft(reversed([each for each in batch[1:] if not each.decided]))

    def _hand_on(self, namespace: str) -> None:
        queue = self._waiting[namespace]
        if queue:
            queue.popleft().turn.set()
        else:
            del self._waiting[namespace]

    async def _decide(self, batch: Sequence[Waiting], namespace: str) -> None:
        names: set[str] | None = None
        """The quotas whose write failed; the others are settled for this batch."""
        for attempt in range(TRIES):
            running = [
                Running(quota)
                for quota in self._list_in(self._quotas, namespace)
                if names is None or objects.name_of(quota) in names
            ]
            for each in batch:
                if not each.decided:
                    _judge(each, running)
            failed = await self._write([each for each in running if each.used != each.read])
            if not failed:
                break
            names = {name for name, _ in failed}
            if attempt == TRIES - 1:
                for each in batch:
                    if not each.decided:
                        each.decide(failed[0][1])
                return
            await self._clock.sleep(AGAIN_SECONDS * (attempt + 1))
        for each in batch:
            if not each.decided:
                each.decide()

    async def _write(self, changed: Iterable[Running]) -> list[tuple[str, ApiError]]:
        """The quotas that are no longer what was read, with what the server said."""
        failed: list[tuple[str, ApiError]] = []
        for each in changed:
            try:
                await self._replace_status(self._quotas, each.written())
            except NotFound:
                continue  # gone, and its limits with it
            except Conflict as error:
                failed.append((each.name, error))
        return failed


def _judge(waiting: Waiting, running: Sequence[Running]) -> None:
    """Refuse the write, or charge it to the quotas concerned; what charges nothing is decided at once."""
    try:
        charges = charges_of(waiting.attributes, waiting.evaluator, running)
    except ApiError as refusal:
        waiting.decide(refusal)
        return
    if not charges or waiting.attributes.dry_run:
        waiting.decide()
        return
    for quota, used in charges:
        quota.used = used


def charges_of(
    attributes: Attributes, evaluator: Evaluator, running: Sequence[Running]
) -> Sequence[tuple[Running, Amounts]]:
    """The quotas whose usage this write changes, each with the usage after it; raises ``Forbidden``."""
    obj = attributes.obj or {}
    interesting = [each for each in running if evaluator.matches(each.quota, obj)]
    for each in interesting:
        _check_known(attributes, evaluator, each, obj)
    if not interesting:
        return ()
    usage = evaluator.usage(obj)
    negative = sorted(name for name, amount in usage.items() if amount.nano < 0)
    if negative:
        raise attributes.forbidden(f"quota usage is negative for resource(s): {','.join(negative)}")
    charges = []
    for each in interesting:
        delta = usage
        if attributes.operation == "UPDATE":
            delta = _delta(evaluator, each.quota, usage, attributes.old or {})
        asked = {name: amount for name, amount in delta.items() if amount and name in each.hard}
        if asked:
            charges.append((each, _charged(attributes, each, asked)))
    return charges


def _check_known(attributes: Attributes, evaluator: Evaluator, quota: Running, obj: Object) -> None:
    limited = evaluator.concerned(quota.hard)
    missing = evaluator.missing(limited, obj)
    if missing:
        raise attributes.forbidden(f"failed quota: {quota.name}: {missing}")
    if any(name not in quota.used for name in limited):
        names = ",".join(sorted(limited))
        raise attributes.forbidden(f"status unknown for quota: {quota.name}, resources: {names}")


def _delta(evaluator: Evaluator, quota: Object, usage: Amounts, old: Object) -> Amounts:
    """What a changed object uses more than before, where the quota counted it before."""
    if not evaluator.matches(quota, old):
        return usage
    before = evaluator.usage(old)
    more = {name: amount - before.get(name, ZERO) for name, amount in usage.items()}
    return {name: amount if amount.nano > 0 else ZERO for name, amount in more.items()}


def _charged(attributes: Attributes, quota: Running, asked: Amounts) -> Amounts:
    """The usage with ``asked``; raises ``Forbidden`` where that is more than the quota has."""
    used = dict(quota.used)
    pod_amounts.add(used, asked)
    exceeded = [name for name in asked if quota.hard[name] < used[name]]
    if exceeded and attributes.subresource != "status":
        parts = (
            f"exceeded quota: {quota.name}",
            f"requested: {_said(asked, exceeded)}",
            f"used: {_said(quota.used, exceeded)}",
            f"limited: {_said(quota.hard, exceeded)}",
        )
        raise attributes.forbidden(", ".join(parts))
    return used


def _said(amounts: Mapping[str, Quantity], names: Iterable[str]) -> str:
    return ",".join(f"{name}={amounts[name]}" for name in sorted(names) if name in amounts)
