"""StatefulSet: pods with lasting names and claims, started, stopped and updated in order.

In: a StatefulSet, its pods, claims and revisions. Out: claims and pods created, pods deleted, ControllerRevisions, one
status write. What to do is decided in ``statefulset_plan``. Source: kubernetes ``pkg/controller/statefulset``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from anynode.api.objects import Object, ObjectKey, is_deleting, key_of, name_of, namespace_of, uid_of, with_meta
from anynode.api.resources import known
from anynode.controllers import statefulset_plan as plan
from anynode.controllers.conditions import same
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.ownership import Claimer, Expectations, Latest
from anynode.controllers.pod_events import PodEvents
from anynode.controllers.pods import (
    PODS,
    BatchFailed,
    in_parallel,
    is_namespace_terminating,
    next_availability,
    slow_start,
)
from anynode.controllers.revisions import CONTROLLER_REVISIONS, RevisionHistory
from anynode.controllers.selection import index_owned, index_selectors, orphans, owned_by, selector_of
from anynode.controllers.statefulset_plan import STATEFUL_SETS, Revisions, SetPlan
from anynode.informers.controller import Done, Outcome, RequeueAfter
from anynode.informers.informer import Delta

CLAIMS = known("persistentvolumeclaims")
REVISION_HASH_LABEL = "controller.kubernetes.io/hash"


class StatefulSetController:
    """Keeps StatefulSets."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._sets = context.informers.informer(STATEFUL_SETS)
        self._pods = context.informers.informer(PODS)
        self._claims = context.informers.informer(CLAIMS)
        self._revisions = context.informers.informer(CONTROLLER_REVISIONS)
        index_owned(self._pods.store)
        index_owned(self._revisions.store)
        index_selectors(self._sets.store)
        self._expectations = Expectations(context.clock)
        self._latest = Latest(self._sets.store)
        self._claimer = Claimer(context.client, owner=STATEFUL_SETS, owned=PODS)
        self._revision_claimer = Claimer(context.client, owner=STATEFUL_SETS, owned=CONTROLLER_REVISIONS)
        self._history = RevisionHistory(context.client, STATEFUL_SETS, hash_label=REVISION_HASH_LABEL)
        self._recorder = context.recorder("statefulset-controller")
        self._controller = context.controller("statefulset", self.reconcile)
        events = PodEvents(self._sets, self._controller.queue.add, self._expectations)
        self._sets.subscribe(self._set_changed)
        self._pods.subscribe(events.handle)

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._sets, self._pods, self._claims, self._revisions))

    def _set_changed(self, delta: Delta) -> None:
        key = key_of(delta.obj)
        if delta.kind == "deleted":
            self._expectations.forget(key)
        self._controller.queue.add(key)

    async def reconcile(self, key: ObjectKey) -> Outcome:
        stateful_set = self._latest.get(key)
        if stateful_set is None:
            return Done()
        selector = selector_of(stateful_set)
        owned_revisions = await self._revision_claimer.claim(
            stateful_set,
            selector,
            [
                *owned_by(self._revisions.store, uid_of(stateful_set)),
                *orphans(self._revisions.store, key.namespace, selector),
            ],
        )
        pods = await self._claimer.claim(
            stateful_set,
            selector,
            [*owned_by(self._pods.store, uid_of(stateful_set)), *orphans(self._pods.store, key.namespace, selector)],
            adoptable=lambda pod: plan.member(pod)[0] == key.name,
        )
        update, old = await self._history.current(stateful_set, owned_revisions)
        named = (stateful_set.get("status") or {}).get("currentRevision")
        current = next((each for each in owned_revisions if name_of(each) == named), update)
        revisions = Revisions(current=current, update=update)
        return await self._sync(key, stateful_set, pods, revisions, old)

    async def _sync(
        self, key: ObjectKey, stateful_set: Object, pods: Sequence[Object], revisions: Revisions, old: Sequence[Object]
    ) -> Outcome:
        now = self._context.now()
        steps = SetPlan()
        failure: Exception | None = None
        if self._expectations.satisfied(key) and not is_deleting(stateful_set):
            steps = plan.plan_pods(stateful_set, pods, revisions, now)
            failure = await self._carry_out(key, stateful_set, steps)
            failure = failure or await self._keep_claims(stateful_set, pods)
        status = plan.plan_status(stateful_set, pods, revisions, steps.updating, now)
        if not same(stateful_set.get("status"), status):
            replaced = {**stateful_set, "status": status}
            self._latest.note(await self._client.update(STATEFUL_SETS, replaced, subresource="status"))
        if failure is not None:
            raise failure
        live = frozenset({name_of(revisions.current), name_of(revisions.update), *map(plan.revision_of, pods)})
        unused = [each for each in old if name_of(each) not in live]
        await self._history.prune(unused, stateful_set["spec"].get("revisionHistoryLimit", 10), live)
        wait_seconds = next_availability(pods, plan.min_ready_seconds(stateful_set), now)
        return Done() if wait_seconds is None else RequeueAfter(wait_seconds)

    async def _carry_out(self, key: ObjectKey, stateful_set: Object, steps: SetPlan) -> Exception | None:
        if steps.create or steps.delete:
            self._expectations.expect(key, creations=len(steps.create), deletions=[uid_of(pod) for pod in steps.delete])
        failure: Exception | None = None

        async def create(number: int) -> None:
            await self._create(stateful_set, steps.create[number])

        async def delete(pod: Object) -> None:
            deleted = False
            try:
                deleted = await self._delete(stateful_set, pod)
            finally:
                if not deleted:
                    self._expectations.deleted(key, uid_of(pod))

        try:
            await slow_start(len(steps.create), create)
        except BatchFailed as failed:
            self._expectations.created(key, len(steps.create) - failed.succeeded)
            failure = failed.first
        failures = await in_parallel(steps.delete, delete)
        for pod in steps.claims_for:
            failures += await in_parallel([pod], lambda each: self._make_claims(stateful_set, each))
        failures += await in_parallel(steps.relabel, self._relabel)
        return failure or (failures[0] if failures else None)

    async def _create(self, stateful_set: Object, pod: Object) -> None:
        try:
            await self._make_claims(stateful_set, pod)
            await self._client.create(PODS, pod)
        except AlreadyExists:
            raise
        except ApiError as error:
            if is_namespace_terminating(error):
                return
            self._tell(stateful_set, "Create", name_of(pod), error)
            raise
        self._tell(stateful_set, "Create", name_of(pod))

    async def _delete(self, stateful_set: Object, pod: Object) -> bool:
        try:
            await self._client.delete(PODS, key_of(pod), uid=uid_of(pod))
        except (NotFound, Conflict):
            return False
        except ApiError as error:
            self._tell(stateful_set, "Delete", name_of(pod), error)
            raise
        self._tell(stateful_set, "Delete", name_of(pod))
        return True

    async def _relabel(self, pod: Object) -> None:
        await self._client.update(PODS, plan.with_identity(pod))

    async def _make_claims(self, stateful_set: Object, pod: Object) -> None:
        for claim in plan.claims(stateful_set, plan.member(pod)[1]).values():
            found = self._claims.store.get(key_of(claim))
            if found is not None:
                if is_deleting(found):
                    raise Conflict(f"pvc {name_of(claim)} is being deleted")  # comes back until it is gone
                continue
            try:
                await self._client.create(CLAIMS, claim)
            except AlreadyExists:
                continue
            except ApiError as error:
                self._tell(stateful_set, "Create", name_of(pod), error, claim=name_of(claim))
                raise
            self._tell(stateful_set, "Create", name_of(pod), claim=name_of(claim))

    async def _keep_claims(self, stateful_set: Object, pods: Sequence[Object]) -> Exception | None:
        """Let claims be owned as the retention policy says."""
        if not stateful_set["spec"].get("volumeClaimTemplates"):
            return None
        changed: list[Object] = []
        for pod in pods:
            for template in stateful_set["spec"]["volumeClaimTemplates"]:
                name = plan.claim_name(template, stateful_set, plan.member(pod)[1])
                claim = self._claims.store.get(ObjectKey(namespace_of(stateful_set), name))
                owners = None if claim is None else plan.plan_claim_owners(stateful_set, pod, claim)
                if claim is not None and owners is not None:
                    changed.append(with_meta(claim, ownerReferences=owners or None))

        async def update(claim: Object) -> None:
            await self._client.update(CLAIMS, claim)

        failures = await in_parallel(changed, update)
        return failures[0] if failures else None

    def _tell(
        self, stateful_set: Object, verb: str, pod: str, error: ApiError | None = None, *, claim: str = ""
    ) -> None:
        subject = f"{verb} Claim {claim} Pod {pod}" if claim else f"{verb} Pod {pod}"
        subject += f" in StatefulSet {name_of(stateful_set)}"
        if error is None:
            ending = "success" if claim else "successful"
            self._recorder.event(stateful_set, "Normal", f"Successful{verb}", f"{subject} {ending}")
        else:
            text = f"{subject} failed error: {error.message}"
            self._recorder.event(stateful_set, "Warning", f"Failed{verb}", text)
