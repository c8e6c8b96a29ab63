"""DaemonSet: a pod on every node that fits, updated node by node.

In: a DaemonSet, the nodes, its pods and revisions. Out: pods created (pinned to their node, for the scheduler to bind)
and deleted, ControllerRevisions, one status write. What to do is decided in ``daemonset_plan``.
Source: kubernetes ``pkg/controller/daemon``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.aio.backoff import Backoff
from anynode.api.errors import ApiError
from anynode.api.objects import (
    Object,
    ObjectKey,
    controller_of,
    get_path,
    is_deleting,
    key_of,
    labels_of,
    meta,
    namespace_of,
    uid_of,
    with_meta,
)
from anynode.api.resources import known
from anynode.controllers import daemonset_plan as plan
from anynode.controllers.conditions import same
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.daemonset_plan import DaemonPlan
from anynode.controllers.node_fit import pinned
from anynode.controllers.ownership import Claimer, Expectations, Latest
from anynode.controllers.pod_events import PodEvents
from anynode.controllers.pods import (
    PODS,
    BatchFailed,
    PodControl,
    in_parallel,
    is_namespace_terminating,
    next_availability,
    slow_start,
    template_pod,
)
from anynode.controllers.revisions import CONTROLLER_REVISIONS, HASH_LABEL, RevisionHistory, hash_of
from anynode.controllers.selection import index_owned, index_selectors, orphans, owned_by, selector_of
from anynode.informers.controller import Done, Outcome, RequeueAfter
from anynode.informers.informer import Delta

DAEMON_SETS = known("daemonsets", "apps")
NODES = known("nodes")
BURST = 250
NODE_EVENT_SECONDS = 0.05
"""Changes of many nodes are looked at together."""
FAILED_POD_BACKOFF = Backoff(first_seconds=1.0, most_seconds=900.0)


class DaemonSetController:
    """Keeps daemons on nodes."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._sets = context.informers.informer(DAEMON_SETS)
        self._pods = context.informers.informer(PODS)
        self._nodes = context.informers.informer(NODES)
        self._revisions = context.informers.informer(CONTROLLER_REVISIONS)
        index_owned(self._pods.store)
        index_owned(self._revisions.store)
        index_selectors(self._sets.store)
        self._expectations = Expectations(context.clock)
        self._latest = Latest(self._sets.store)
        self._failures: dict[ObjectKey, dict[str, tuple[int, float]]] = {}
        self._claimer = Claimer(context.client, owner=DAEMON_SETS, owned=PODS)
        self._revision_claimer = Claimer(context.client, owner=DAEMON_SETS, owned=CONTROLLER_REVISIONS)
        self._history = RevisionHistory(context.client, DAEMON_SETS)
        self._recorder = context.recorder("daemonset-controller")
        self._control = PodControl(context.client, self._recorder, DAEMON_SETS)
        self._controller = context.controller("daemonset", self.reconcile)
        events = PodEvents(self._sets, self._controller.queue.add, self._expectations)
        self._sets.subscribe(self._set_changed)
        self._pods.subscribe(events.handle)
        self._nodes.subscribe(self._node_changed)
        self._revisions.subscribe(self._revision_changed)

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._sets, self._pods, self._nodes, self._revisions))

    def _set_changed(self, delta: Delta) -> None:
        key = key_of(delta.obj)
        if delta.kind == "deleted":
            self._expectations.forget(key)
            self._failures.pop(key, None)
        if not self._latest.is_echo(delta):
            self._controller.queue.add(key)

    def _node_changed(self, delta: Delta) -> None:
        if delta.kind == "modified" and delta.old is not None and _looks(delta.old) == _looks(delta.obj):
            return
        for daemon_set in self._sets.store:
            self._controller.queue.add_after(key_of(daemon_set), NODE_EVENT_SECONDS)

    def _revision_changed(self, delta: Delta) -> None:
        reference = controller_of(delta.obj)
        if reference is not None and reference.get("kind") == DAEMON_SETS.kind:
            self._controller.queue.add(ObjectKey(namespace_of(delta.obj), reference.get("name") or ""))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        daemon_set = self._latest.get(key)
        if daemon_set is None or is_deleting(daemon_set):
            return Done()
        if not get_path(daemon_set, "spec", "selector"):
            text = "This daemon set is selecting all pods. A non-empty selector is required."
            self._recorder.event(daemon_set, "Warning", "SelectingAll", text)
            return Done()
        selector = selector_of(daemon_set)
        revisions = await self._revision_claimer.claim(
            daemon_set,
            selector,
            [
                *owned_by(self._revisions.store, uid_of(daemon_set)),
                *orphans(self._revisions.store, key.namespace, selector),
            ],
        )
        current, old = await self._history.current(daemon_set, revisions)
        pods = await self._claimer.claim(
            daemon_set,
            selector,
            [*owned_by(self._pods.store, uid_of(daemon_set)), *orphans(self._pods.store, key.namespace, selector)],
        )
        return await self._sync(key, daemon_set, pods, current, old)

    async def _sync(
        self, key: ObjectKey, daemon_set: Object, pods: Sequence[Object], current: Object, old: Sequence[Object]
    ) -> Outcome:
        now = self._context.now()
        nodes = self._nodes.store.list()
        placed = plan.by_node(pods)
        name_hash = hash_of(current)
        settled = self._expectations.satisfied(key)
        waits: list[float] = []
        failure: Exception | None = None
        if settled:
            steps = plan.plan_nodes(daemon_set, nodes, placed, name_hash, now)
            waits.extend(self._with_ended(key, daemon_set, steps, now))
            failure = await self._carry_out(key, daemon_set, steps, name_hash)
            rolling = get_path(daemon_set, "spec", "updateStrategy", "type") == "RollingUpdate"
            if failure is None and rolling and self._expectations.satisfied(key):
                steps = plan.plan_update(daemon_set, nodes, placed, name_hash, now)
                failure = await self._carry_out(key, daemon_set, steps, name_hash)
            if failure is None:
                keep = daemon_set["spec"].get("revisionHistoryLimit", 10)
                await self._history.prune(old, keep, plan.live_hashes(pods))
        status = plan.plan_status(daemon_set, nodes, placed, name_hash, observed=settled, now=now)
        if not same(daemon_set.get("status"), status):
            replaced = {**daemon_set, "status": status}
            self._latest.note(await self._client.update(DAEMON_SETS, replaced, subresource="status"))
        if failure is not None:
            raise failure
        available_in = next_availability(pods, plan.min_ready_seconds(daemon_set), now)
        waits.extend([] if available_in is None else [available_in])
        return RequeueAfter(min(waits)) if waits else Done()

    def _with_ended(self, key: ObjectKey, daemon_set: Object, steps: DaemonPlan, now: float) -> list[float]:
        """Add pods that ended to what is deleted, failed ones with back-off per node; the waits that remain."""
        waits: list[float] = []
        counts = self._failures.setdefault(key, {})
        for node, pod in steps.failed:
            failures, since = counts.get(node, (0, 0.0))
            left = since + FAILED_POD_BACKOFF.delay_seconds(failures) - now if failures else 0.0
            if left > 0:
                waits.append(left)
                continue
            counts[node] = (failures + 1, now)
            text = f"Found failed daemon pod {key_of(pod)} on node {node}, will try to kill it"
            self._recorder.event(daemon_set, "Warning", "FailedDaemonPod", text)
            steps.delete.append(pod)
        for node, pod in steps.succeeded:
            text = f"Found succeeded daemon pod {key_of(pod)} on node {node}, will try to delete it"
            self._recorder.event(daemon_set, "Normal", "SucceededDaemonPod", text)
            steps.delete.append(pod)
        return waits

    async def _carry_out(
        self, key: ObjectKey, daemon_set: Object, steps: DaemonPlan, name_hash: str
    ) -> Exception | None:
        create, doomed = steps.create[:BURST], steps.delete[:BURST]
        if not create and not doomed:
            return None
        self._expectations.expect(key, creations=len(create), deletions=plan.uids(doomed))
        wished = daemon_pod(daemon_set, name_hash)
        failure: Exception | None = None

        async def start(number: int) -> None:
            try:
                await self._control.create(daemon_set, on_node(wished, create[number]))
            except ApiError as error:
                if not is_namespace_terminating(error):
                    raise

        async def delete(pod: Object) -> None:
            deleted = False
            try:
                deleted = await self._control.delete(daemon_set, pod)
            finally:
                if not deleted:
                    self._expectations.deleted(key, uid_of(pod))

        try:
            await slow_start(len(create), start)
        except BatchFailed as failed:
            self._expectations.created(key, len(create) - failed.succeeded)
            failure = failed.first
        failures = await in_parallel(doomed, delete)
        return failure or (failures[0] if failures else None)


def _looks(node: Object) -> tuple[object, object]:
    """What of a node decides whether daemons fit."""
    return labels_of(node), get_path(node, "spec", "taints", default=())


def daemon_pod(daemon_set: Object, name_hash: str) -> Object:
    """The pod of a DaemonSet, not yet pinned to a node."""
    pod = template_pod(daemon_set["spec"]["template"], daemon_set, DAEMON_SETS)
    labels = {**(meta(pod).get("labels") or {}), HASH_LABEL: name_hash}
    generation = plan.generation_of(daemon_set)
    if generation:
        labels[plan.GENERATION_LABEL] = generation
    pod = with_meta(pod, labels=labels)
    return {**pod, "spec": {**pod["spec"], "tolerations": plan.tolerations(pod["spec"])}}


def on_node(pod: Object, node: str) -> Object:
    return {**pod, "spec": {**pod["spec"], "affinity": pinned(pod["spec"].get("affinity"), node)}}
