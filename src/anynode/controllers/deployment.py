"""Deployment: ReplicaSets come and go so that the pods move from one template to the next.

In: a Deployment and its ReplicaSets (and pods, to know when a Recreate may go on). Out: ReplicaSets created, resized
and deleted, one status write; what to do is decided in ``deployment_rollout`` and ``deployment_status``.
Source: kubernetes ``pkg/controller/deployment``, 1.36.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from anynode.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from anynode.api.objects import (
    Object,
    ObjectKey,
    annotations_of,
    controller_of,
    get_path,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    uid_of,
    with_meta,
)
from anynode.controllers import deployment_rollout as rollout
from anynode.controllers import deployment_status as statuses
from anynode.controllers.conditions import same
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.deployment_rollout import DEPLOYMENTS, REVISION, Change
from anynode.controllers.ownership import Claimer, Latest, is_controlled_by
from anynode.controllers.pods import PODS, in_parallel, is_namespace_terminating, is_terminal
from anynode.controllers.replicaset import REPLICA_SETS
from anynode.controllers.scaling import equal_templates
from anynode.controllers.selection import (
    index_owned,
    index_selectors,
    orphans,
    owned_by,
    selecting,
    selector_of,
)
from anynode.informers.controller import Done, Outcome, RequeueAfter
from anynode.informers.informer import Delta

logger = logging.getLogger(__name__)


class DeploymentController:
    """Rolls out every Deployment."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._deployments = context.informers.informer(DEPLOYMENTS)
        self._sets = context.informers.informer(REPLICA_SETS)
        self._pods = context.informers.informer(PODS)
        index_selectors(self._deployments.store)
        index_owned(self._sets.store)
        index_owned(self._pods.store)
        self._latest = Latest(self._deployments.store)
        self._latest_sets = Latest(self._sets.store)
        self._claimer = Claimer(context.client, owner=DEPLOYMENTS, owned=REPLICA_SETS)
        self._recorder = context.recorder("deployment-controller")
        self._controller = context.controller("deployment", self.reconcile)
        self._deployments.subscribe(lambda delta: self._controller.queue.add(key_of(delta.obj)))
        self._sets.subscribe(self._set_changed)
        self._pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._deployments, self._sets, self._pods))

    def _set_changed(self, delta: Delta) -> None:
        if delta.kind == "deleted":
            self._latest_sets.forget(key_of(delta.obj))
        for each in (delta.obj, delta.old) if delta.old is not None else (delta.obj,):
            key = self._owner_key(each)
            if key is not None:
                self._controller.queue.add(key)
        if controller_of(delta.obj) is None and not is_deleting(delta.obj) and delta.kind != "deleted":
            for deployment in selecting(self._deployments.store, delta.obj):
                self._controller.queue.add(key_of(deployment))

    def _owner_key(self, replica_set: Object) -> ObjectKey | None:
        reference = controller_of(replica_set)
        if reference is None or reference.get("kind") != "Deployment":
            return None
        key = ObjectKey(namespace_of(replica_set), reference.get("name") or "")
        found = self._deployments.store.get(key)
        return key if found is not None and uid_of(found) == reference.get("uid") else None

    def _pod_changed(self, delta: Delta) -> None:
        """The last old pod of a Recreate is gone: the new ones may start."""
        reference = controller_of(delta.obj)
        if delta.kind != "deleted" or reference is None or reference.get("kind") != "ReplicaSet":
            return
        replica_set = self._sets.store.get(ObjectKey(namespace_of(delta.obj), reference.get("name") or ""))
        key = None if replica_set is None else self._owner_key(replica_set)
        deployment = None if key is None else self._deployments.store.get(key)
        if key is not None and deployment is not None and not rollout.is_rolling(deployment):
            self._controller.queue.add(key)

    async def reconcile(self, key: ObjectKey) -> Outcome:
        deployment = self._latest.get(key)
        if deployment is None:
            return Done()
        selector = selector_of(deployment)
        if not get_path(deployment, "spec", "selector"):
            text = "This deployment is selecting all pods. A non-empty selector is required."
            self._recorder.event(deployment, "Warning", "SelectingAll", text)
            return Done()
        owned = owned_by(self._sets.store, uid_of(deployment))
        candidates = [*owned, *orphans(self._sets.store, key.namespace, selector)]
        claimed = await self._claimer.claim(deployment, selector, candidates)
        sets = [self._latest_sets.newer(each) for each in claimed]
        try:
            return await self._sync(deployment, sets)
        except ApiError as error:
            if is_namespace_terminating(error):
                return Done()
            raise

    async def _sync(self, deployment: Object, sets: list[Object]) -> Outcome:
        now = self._context.now()
        new = rollout.find_new(deployment, sets)
        if is_deleting(deployment):
            return await self._report(deployment, statuses.plan_counts(deployment, new, sets, now))
        before, deployment = deployment, statuses.with_pause_noted(deployment, now)
        paused = bool(deployment["spec"].get("paused"))
        if paused or rollout.is_scaling(deployment, sets):
            old = _others(sets, new)
            sets = await self._carry_out(deployment, sets, rollout.plan_scaling(deployment, new, old))
            new = rollout.find_new(deployment, sets)
            if paused:
                await self._clean_up(deployment, _others(sets, new))
            return await self._report(before, statuses.plan_counts(deployment, new, sets, now), new)
        if rollout.is_rolling(deployment):
            deployment, sets, new = await self._roll(deployment, sets, new)
        else:
            deployment, sets, new = await self._recreate(deployment, sets, new)
        if statuses.is_complete(deployment, deployment.get("status") or {}):
            await self._clean_up(deployment, _others(sets, new))
        return await self._report(before, statuses.plan_status(deployment, new, sets, self._context.now()), new)

    async def _roll(
        self, deployment: Object, sets: list[Object], new: Object | None
    ) -> tuple[Object, list[Object], Object | None]:
        deployment, sets, new = await self._ensure_new(deployment, sets, new)
        if new is not None:
            changes = rollout.plan_rolling(deployment, new, _others(sets, new))
            sets = await self._carry_out(deployment, sets, changes)
            new = rollout.find_new(deployment, sets)
        return deployment, sets, new

    async def _recreate(
        self, deployment: Object, sets: list[Object], new: Object | None
    ) -> tuple[Object, list[Object], Object | None]:
        old = _others(sets, new)
        down = rollout.plan_recreate_down(deployment, old)
        if down:
            return deployment, await self._carry_out(deployment, sets, down), new
        if rollout.count(old, "replicas") or self._has_running_pods(old):
            return deployment, sets, new
        deployment, sets, new = await self._ensure_new(deployment, sets, new)
        if new is not None and rollout.size(new) != rollout.wanted(deployment):
            change = rollout.resized(deployment, new, rollout.wanted(deployment))
            sets = await self._carry_out(deployment, sets, [] if change is None else [change])
            new = rollout.find_new(deployment, sets)
        return deployment, sets, new

    def _has_running_pods(self, old: Sequence[Object]) -> bool:
        return any(not is_terminal(pod) for each in old for pod in owned_by(self._pods.store, uid_of(each)))

    async def _ensure_new(
        self, deployment: Object, sets: list[Object], new: Object | None
    ) -> tuple[Object, list[Object], Object | None]:
        """The Deployment with its progress noted, and its ReplicaSets with the new one up to date."""
        now = self._context.now()
        if new is None:
            return await self._create_new(deployment, sets)
        after = rollout.refreshed(deployment, new, _others(sets, new))
        if after is not new:
            sets = await self._carry_out(deployment, sets, [Change(before=new, after=after)])
            new = rollout.find_new(deployment, sets)
        if new is not None and statuses.progressing(deployment) is None:
            message = f'Found new replica set "{name_of(new)}"'
            deployment = statuses.with_progress(deployment, "True", "FoundNewReplicaSet", message, now)
        return deployment, sets, new

    async def _create_new(self, deployment: Object, sets: list[Object]) -> tuple[Object, list[Object], Object | None]:
        wished = rollout.new_replica_set(deployment, sets)
        name = name_of(wished)
        now = self._context.now()
        try:
            created = await self._client.create(REPLICA_SETS, wished)
        except AlreadyExists:
            created = await self._existing(deployment, wished)
            return deployment, [*sets, created], created
        except ApiError as error:
            if is_namespace_terminating(error):
                raise
            message = f'Failed to create new replica set "{name}": {error.message}'
            failed = statuses.with_progress(deployment, "False", "ReplicaSetCreateError", message, now)
            self._recorder.event(deployment, "Warning", "ReplicaSetCreateError", message)
            if failed is not deployment:
                self._latest.note(await self._client.update(DEPLOYMENTS, failed, subresource="status"))
            raise
        if rollout.size(created):
            text = f"Scaled up replica set {name} from 0 to {rollout.size(created)}"
            self._recorder.event(deployment, "Normal", "ScalingReplicaSet", text)
        message = f'Created new replica set "{name}"'
        deployment = statuses.with_progress(deployment, "True", "NewReplicaSetCreated", message, now)
        return deployment, [*sets, created], created

    async def _existing(self, deployment: Object, wished: Object) -> Object:
        """The ReplicaSet that has the wished name, if it is ours; else the hash is changed and the error raised."""
        found = await self._client.get(REPLICA_SETS, key_of(wished))
        ours = is_controlled_by(found, deployment)
        if ours and equal_templates(found["spec"]["template"], wished["spec"]["template"]):
            return found
        old = deployment.get("status") or {}
        collided = {**deployment, "status": {**old, "collisionCount": (old.get("collisionCount") or 0) + 1}}
        self._latest.note(await self._client.update(DEPLOYMENTS, collided, subresource="status"))
        raise HashCollision(f"another ReplicaSet is named {key_of(wished)}")

    async def _carry_out(self, deployment: Object, sets: list[Object], changes: Sequence[Change]) -> list[Object]:
        """Write ``changes``; the ReplicaSets with what was written."""
        written: dict[str, Object] = {}

        async def write(change: Change) -> None:
            after = self._latest_sets.note(await self._client.update(REPLICA_SETS, change.after))
            written[uid_of(change.before)] = after
            if change.message:
                self._recorder.event(deployment, "Normal", "ScalingReplicaSet", change.message)

        failures = await in_parallel(changes, write)
        if failures:
            raise failures[0]
        return [written.get(uid_of(each), each) for each in sets]

    async def _clean_up(self, deployment: Object, old: Sequence[Object]) -> None:
        for each in rollout.plan_history(deployment, old):
            try:
                await self._client.delete(REPLICA_SETS, key_of(each), uid=uid_of(each))
            except NotFound:
                logger.debug("replica set was gone already", extra={"replica_set": str(key_of(each))})

    async def _report(self, before: Object, status: Object, new: Object | None = None) -> Outcome:
        """Write status and revision if they changed since ``before``."""
        revision = "" if new is None else annotations_of(new).get(REVISION, "")
        result = before
        if revision and annotations_of(before).get(REVISION) != revision:
            result = with_meta(before, annotations={**annotations_of(before), REVISION: revision})
        if result is not before or not same(before.get("status"), status):
            result = {**result, "status": status}
            self._latest.note(await self._client.update(DEPLOYMENTS, result, subresource="status"))
        wait_seconds = statuses.seconds_until_timeout(before, status, self._context.now())
        return Done() if wait_seconds is None or is_deleting(before) else RequeueAfter(wait_seconds)


class HashCollision(Conflict):
    """The name of the new ReplicaSet is taken by another; the next try uses another name."""


def _others(sets: Sequence[Object], new: Object | None) -> list[Object]:
    return [each for each in sets if new is None or uid_of(each) != uid_of(new)]
