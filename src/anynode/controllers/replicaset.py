"""ReplicaSet and ReplicationController: as many pods as are wished for, and a status that says what there is.

In: a ReplicaSet, its pods and the orphans it selects. Out: pods created or deleted in growing batches, one status
write. Source: kubernetes ``pkg/controller/replicaset``, 1.36.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence

from anynode.api.errors import ApiError
from anynode.api.objects import (
    Object,
    ObjectKey,
    controller_of,
    find_condition,
    get_path,
    is_deleting,
    key_of,
    labels_of,
    meta,
    namespace_of,
    uid_of,
)
from anynode.api.resources import Resource, known
from anynode.controllers import pods as pod_facts
from anynode.controllers.conditions import compact, same, with_condition, without
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.ownership import Claimer, Expectations, Latest, is_controlled_by
from anynode.controllers.pace import Pace
from anynode.controllers.pod_events import PodEvents
from anynode.controllers.pods import BURST, PODS, BatchFailed, PodControl, in_parallel, slow_start
from anynode.controllers.selection import (
    index_owned,
    index_selectors,
    orphans,
    owned_by,
    selector_of,
)
from anynode.controllers.times import timestamp
from anynode.informers.controller import Done, Outcome, RequeueAfter
from anynode.informers.informer import Delta

REPLICA_SETS = known("replicasets", "apps")
REPLICATION_CONTROLLERS = known("replicationcontrollers")
REPLICA_FAILURE = "ReplicaFailure"
_COMPONENTS = {"ReplicaSet": "replicaset-controller", "ReplicationController": "replication-controller"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaPlan:
    """``create`` pods more, or delete these."""

    create: int = 0
    delete: Sequence[Object] = ()


def plan_replicas(wanted: int, active: Sequence[Object], doubled: Mapping[str, int], now: float) -> ReplicaPlan:
    """The way from ``active`` pods to ``wanted``, at most ``BURST`` at a time.

    ``doubled``: node -> active pods there of all ReplicaSets of the same owner; crowded nodes give up pods first.
    """
    missing = wanted - len(active)
    if missing >= 0:
        return ReplicaPlan(create=min(missing, BURST))
    surplus = min(-missing, BURST)
    if surplus == len(active):
        return ReplicaPlan(delete=tuple(active))
    return ReplicaPlan(delete=tuple(pod_facts.deletion_order(active, doubled, now)[:surplus]))


def plan_status(
    replica_set: Object,
    active: Sequence[Object],
    *,
    terminating: int | None,
    failure: Exception | None,
    now: float,
) -> Object:
    """The status these pods make; ``failure`` is what creating or deleting met.

    ``terminating`` is None for a kind that does not tell it.
    """
    spec = replica_set["spec"]
    min_ready_seconds = spec.get("minReadySeconds") or 0
    template_labels = get_path(spec, "template", "metadata", "labels", default={}).items()
    ready = [pod for pod in active if pod_facts.is_ready(pod)]
    conditions = get_path(replica_set, "status", "conditions", default=[])
    failing = find_condition(conditions, REPLICA_FAILURE)
    if failure is not None and failing is None:
        short = len(active) < (spec.get("replicas") or 0)
        conditions = with_condition(
            conditions,
            {
                "type": REPLICA_FAILURE,
                "status": "True",
                "lastTransitionTime": timestamp(now),
                "reason": "FailedCreate" if short else "FailedDelete",
                "message": str(failure),
            },
        )
    elif failure is None and failing is not None:
        conditions = without(conditions, REPLICA_FAILURE)
    return compact(
        {
            "replicas": len(active),
            "fullyLabeledReplicas": sum(1 for pod in active if template_labels <= labels_of(pod).items()),
            "readyReplicas": len(ready),
            "availableReplicas": sum(1 for pod in ready if pod_facts.is_available(pod, min_ready_seconds, now)),
            "terminatingReplicas": terminating,
            "observedGeneration": meta(replica_set).get("generation") or 0,
            "conditions": conditions,
        },
        always=("replicas", "terminatingReplicas"),
    )


class ReplicaSetController:
    """Keeps every ReplicaSet (or, with another ``resource``, every ReplicationController) at its size."""

    def __init__(self, context: ControllerContext, resource: Resource = REPLICA_SETS) -> None:
        self._context = context
        self._client = context.client
        self._resource = resource
        self._sets = context.informers.informer(resource)
        self._pods = context.informers.informer(PODS)
        index_owned(self._pods.store)
        index_selectors(self._sets.store)
        index_owned(self._sets.store)
        self._expectations = Expectations(context.clock)
        self._latest = Latest(self._sets.store)
        self._claimer = Claimer(context.client, owner=resource, owned=PODS)
        component = _COMPONENTS[resource.kind]
        self._control = PodControl(context.client, context.recorder(component), resource)
        self._controller = context.controller(resource.singular, self.reconcile)
        self._pace = Pace(self._controller.queue)
        events = PodEvents(self._sets, self._pace.add, self._expectations)
        self._sets.subscribe(self._changed)
        self._pods.subscribe(events.handle)

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._sets, self._pods))

    def _changed(self, delta: Delta) -> None:
        key = key_of(delta.obj)
        if delta.kind == "deleted":
            self._expectations.forget(key)
            self._pace.forget(key)
        if not self._latest.is_echo(delta):
            self._controller.queue.add(key)

    async def reconcile(self, key: ObjectKey) -> Outcome:
        replica_set = self._latest.get(key)
        if replica_set is None:
            return Done()
        selector = selector_of(replica_set)
        settled = self._expectations.satisfied(key)
        owned = owned_by(self._pods.store, uid_of(replica_set))
        self._pace.note(key, len(owned))
        candidates = [*owned, *orphans(self._pods.store, namespace_of(replica_set), selector)]
        active = await self._claimer.claim(
            replica_set, selector, (pod for pod in candidates if pod_facts.is_active(pod))
        )
        terminating = sum(
            1
            for pod in owned
            if is_deleting(pod)
            and not pod_facts.is_terminal(pod)
            and is_controlled_by(pod, replica_set)
            and selector.matches(labels_of(pod))
        )
        failure: Exception | None = None
        if settled and not is_deleting(replica_set):
            failure = await self._manage(key, replica_set, active)
        now = self._context.now()
        told = terminating if self._resource == REPLICA_SETS else None
        status = plan_status(replica_set, active, terminating=told, failure=failure, now=now)
        if not same(replica_set.get("status"), status):
            replaced = {**replica_set, "status": status}
            self._latest.note(await self._client.update(self._resource, replaced, subresource="status"))
        if failure is not None:
            raise failure
        wait_seconds = pod_facts.next_availability(active, replica_set["spec"].get("minReadySeconds") or 0, now)
        return Done() if wait_seconds is None else RequeueAfter(wait_seconds)

    async def _manage(self, key: ObjectKey, replica_set: Object, active: Sequence[Object]) -> Exception | None:
        """Create or delete pods; what stopped it, if something did."""
        wanted = replica_set["spec"].get("replicas")
        doubled = self._doubled(replica_set) if len(active) > (wanted or 0) > 0 else {}
        plan = plan_replicas(1 if wanted is None else wanted, active, doubled, self._context.now())
        if plan.create:
            return await self._create(key, replica_set, plan.create)
        if plan.delete:
            return await self._delete(key, replica_set, plan.delete)
        return None

    async def _create(self, key: ObjectKey, replica_set: Object, count: int) -> Exception | None:
        self._expectations.expect(key, creations=count)
        template = replica_set["spec"]["template"]

        async def create(_: int) -> None:
            try:
                await self._control.create_from(replica_set, template)
            except ApiError as error:
                if not pod_facts.is_namespace_terminating(error):
                    raise

        try:
            await slow_start(count, create)
        except BatchFailed as failed:
            self._expectations.created(key, count - failed.succeeded)
            return failed.first
        return None

    async def _delete(self, key: ObjectKey, replica_set: Object, doomed: Sequence[Object]) -> Exception | None:
        self._expectations.expect(key, deletions=(uid_of(pod) for pod in doomed))

        async def delete(pod: Object) -> None:
            deleted = False
            try:
                deleted = await self._control.delete(replica_set, pod)
            finally:
                if not deleted:
                    self._expectations.deleted(key, uid_of(pod))

        failures = await in_parallel(doomed, delete)
        return failures[0] if failures else None

    def _doubled(self, replica_set: Object) -> Mapping[str, int]:
        """Active pods per node over the ReplicaSets that share this one's owner."""
        reference = controller_of(replica_set)
        family = [replica_set] if reference is None else owned_by(self._sets.store, reference["uid"])
        return collections.Counter(
            pod_facts.names_node(pod)
            for each in family
            for pod in owned_by(self._pods.store, uid_of(each))
            if pod_facts.is_active(pod)
        )
