"""PodDisruptionBudgets say how many of their pods may go now, for the eviction API to charge against.

In: budgets, pods, and what the pods belong to. Out: the budget's status; pods that were to be evicted and stay lose
their ``DisruptionTarget`` after two minutes. Where a budget cannot be worked out it allows nothing and says why.
Source: kubernetes ``pkg/controller/disruption/disruption.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from anynode.aio.tasks import Supervisor
from anynode.api.errors import ApiError, Conflict, NotFound
from anynode.api.objects import (
    Object,
    ObjectKey,
    condition_of,
    controller_of,
    get_path,
    is_deleting,
    key_of,
    labels_of,
    meta,
    name_of,
    namespace_of,
    uid_of,
)
from anynode.api.resources import GroupVersion, Resource, known
from anynode.api.selectors import LabelSelector, SelectorError, of_label_selector
from anynode.client.discovery import discover
from anynode.controllers.context import ControllerContext
from anynode.controllers.pods import PODS, is_ready, is_terminal
from anynode.controllers.scaling import scaled
from anynode.controllers.selection import index_labels, labelled
from anynode.controllers.times import seconds_of
from anynode.informers.controller import Done, Outcome, RequeueAfter
from anynode.informers.informer import Delta

BUDGETS = known("poddisruptionbudgets", "policy")
DELETION_SECONDS = 120.0
"""How long an evicted pod may take to be marked for deletion; after that it counts as staying."""
ALLOWED = "DisruptionAllowed"
TARGET = "DisruptionTarget"
_SCALED = {
    ("ReplicationController", ""): known("replicationcontrollers"),
    ("ReplicaSet", "apps"): known("replicasets", "apps"),
    ("StatefulSet", "apps"): known("statefulsets", "apps"),
}
_DEPLOYMENTS = known("deployments", "apps")


class UnknownScale(Exception):
    """How many pods there should be cannot be found out."""


@dataclasses.dataclass(frozen=True, slots=True)
class Expectation:
    """How many pods there should be, and how many of them healthy; ``unmanaged``: some belong to nobody."""

    pods: int
    healthy: int
    unmanaged: bool = False


def selector_of(budget: Object) -> LabelSelector:
    """What the budget selects; raises ``SelectorError``."""
    return of_label_selector(get_path(budget, "spec", "selector"))


def healthy_pods(pods: Sequence[Object], disrupted: Object, now: float) -> int:
    """How many pods are ready and neither going nor about to be evicted."""
    count = 0
    for pod in pods:
        moment = disrupted.get(name_of(pod))
        about_to_go = moment is not None and seconds_of(moment) + DELETION_SECONDS > now
        count += not is_deleting(pod) and not about_to_go and is_ready(pod)
    return count


def status_of(budget: Object, expected: Expectation, healthy: int, disrupted: Object, timestamp: str) -> Object:
    """The budget's new status."""
    allowed = max(0, healthy - expected.healthy) if expected.pods > 0 else 0
    generation = meta(budget).get("generation") or 0
    reason = "SufficientPods" if allowed else "InsufficientPods"
    status: Object = {
        **({"observedGeneration": generation} if generation else {}),
        **({"disruptedPods": disrupted} if disrupted else {}),
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": expected.healthy,
        "expectedPods": expected.pods,
    }
    return with_condition(status, budget, "True" if allowed else "False", reason, "", timestamp)


def with_condition(status: Object, budget: Object, value: str, reason: str, message: str, timestamp: str) -> Object:
    """``status`` with the condition that says whether disruptions are allowed."""
    conditions = get_path(budget, "status", "conditions", default=[])
    old = condition_of(budget, ALLOWED)
    moment = timestamp if old is None or old.get("status") != value else old.get("lastTransitionTime", timestamp)
    generation = status.get("observedGeneration")
    new = {
        "type": ALLOWED,
        "status": value,
        **({"observedGeneration": generation} if generation else {}),
        "lastTransitionTime": moment,
        "reason": reason,
        "message": message,
    }
    if old is None:
        return {**status, "conditions": [*conditions, new]}
    return {**status, "conditions": [new if each.get("type") == ALLOWED else each for each in conditions]}


def is_up_to_date(budget: Object, status: Object) -> bool:
    """Whether the stored status already says what ``status`` does."""
    before = budget.get("status") or {}
    numbers = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods", "observedGeneration")
    same = all((before.get(field) or 0) == (status.get(field) or 0) for field in numbers)
    condition = condition_of(budget, ALLOWED)
    told = condition is not None and condition.get("status") == ("True" if status["disruptionsAllowed"] else "False")
    return same and told and (before.get("disruptedPods") or {}) == (status.get("disruptedPods") or {})


def stale_in_seconds(pod: Object, now: float) -> float | None:
    """When a pod that was to be disrupted and stays counts as saved; None when it is not such a pod."""
    if is_deleting(pod) or is_terminal(pod):
        return None
    condition = condition_of(pod, TARGET)
    if condition is None or condition.get("status") != "True" or condition.get("reason") == "TerminationByKubelet":
        return None
    return max(0.0, seconds_of(condition["lastTransitionTime"]) + DELETION_SECONDS - now)


class DisruptionController:
    """Keeps the status of budgets."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._recorder = context.recorder("controllermanager")
        self._budgets = context.informers.informer(BUDGETS)
        self._pods = context.informers.informer(PODS)
        index_labels(self._pods.store)
        self._owners = {slot: context.informers.informer(resource) for slot, resource in _SCALED.items()}
        self._deployments = context.informers.informer(_DEPLOYMENTS)
        self._controller = context.controller("disruption", self.reconcile, workers=1)
        self._stale = context.controller("disruption-stale-pods", self.clear_stale, workers=1)
        self._budgets.subscribe(lambda delta: self._controller.queue.add(key_of(delta.obj)))
        self._pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        for informer in (self._budgets, self._pods, self._deployments, *self._owners.values()):
            await informer.wait_synced()
        async with Supervisor("disruption", clock=self._context.clock) as tasks:
            tasks.start("stale-pods", self._stale.run)
            await tasks.start("budgets", self._controller.run)

    def _pod_changed(self, delta: Delta) -> None:
        pod = delta.obj
        if delta.kind != "deleted":
            seconds = stale_in_seconds(pod, self._context.now())
            if seconds is not None:
                self._stale.queue.add_after(key_of(pod), seconds)
        if not len(self._budgets.store):
            return
        found = self._budgets_of(pod)
        if len(found) > 1:
            where = f'"{namespace_of(pod)}"/"{name_of(pod)}"'
            said = f'Pod {where} matches multiple PodDisruptionBudgets.  Chose "{name_of(found[0])}" arbitrarily.'
            self._recorder.event(pod, "Warning", "MultiplePodDisruptionBudgets", said)
        for budget in found[:1]:
            self._controller.queue.add(key_of(budget))
        if delta.old is not None and labels_of(delta.old) != labels_of(pod):
            for budget in self._budgets_of(delta.old):
                self._controller.queue.add(key_of(budget))

    def _budgets_of(self, pod: Object) -> list[Object]:
        labels, found = labels_of(pod), []
        for budget in self._budgets.store.list(namespace_of(pod)):
            try:
                if selector_of(budget).matches(labels):
                    found.append(budget)
            except SelectorError:
                continue
        return found

    # --- budgets

    async def reconcile(self, key: ObjectKey) -> Outcome:
        budget = self._budgets.store.get(key)
        if budget is None:
            return Done()
        try:
            return await self._settle(budget)
        except Conflict:
            raise
        except (ApiError, UnknownScale, SelectorError, ValueError) as error:
            status = {**(budget.get("status") or {}), "disruptionsAllowed": 0}
            timestamp = self._context.timestamp()
            status = with_condition(status, budget, "False", "SyncFailed", str(error), timestamp)
            if status != budget.get("status"):
                await self._write(budget, status)
            return Done()

    async def _settle(self, budget: Object) -> Outcome:
        selector = selector_of(budget)
        wanted = get_path(budget, "spec", "selector", "matchLabels", default={})
        candidates = labelled(self._pods.store, namespace_of(budget), wanted)
        pods = [] if selector.empty and get_path(budget, "spec", "selector") is None else candidates
        pods = [pod for pod in pods if selector.matches(labels_of(pod))]
        if not pods:
            self._recorder.event(budget, "Normal", "NoPods", "No matching pods found")
        try:
            expected = await self._expected(budget, pods)
        except (ApiError, UnknownScale) as error:
            said = f"Failed to calculate the number of expected pods: {error}"
            self._recorder.event(budget, "Warning", "CalculateExpectedPodCountFailed", said)
            raise
        if expected.unmanaged:
            self._tell_unmanaged(budget)
        now = self._context.now()
        disrupted, again_seconds = self._disrupted(budget, pods, now)
        healthy = healthy_pods(pods, disrupted, now)
        status = status_of(budget, expected, healthy, disrupted, self._context.timestamp())
        if not is_up_to_date(budget, status):
            await self._write(budget, status)
        return Done() if again_seconds is None else RequeueAfter(again_seconds)

    async def _write(self, budget: Object, status: Object) -> None:
        try:
            await self._client.update(BUDGETS, {**budget, "status": status}, subresource="status")
        except NotFound:
            return

    def _tell_unmanaged(self, budget: Object) -> None:
        selector = json.dumps(get_path(budget, "spec", "selector"), separators=(",", ":"))
        self._recorder.event(
            budget,
            "Warning",
            "UnmanagedPods",
            f"Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a "
            "result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To "
            'account for these pods please set ".spec.minAvailable" field of the PDB to an integer value.',
        )

    def _disrupted(self, budget: Object, pods: Sequence[Object], now: float) -> tuple[Object, float | None]:
        """The evicted pods that are still to be marked for deletion, and when to look again."""
        told = get_path(budget, "status", "disruptedPods", default={})
        kept: Object = {}
        again: float | None = None
        for pod in pods:
            moment = told.get(name_of(pod))
            if moment is None or is_deleting(pod):
                continue
            left = seconds_of(moment) + DELETION_SECONDS - now
            if left < 0:
                namespace = namespace_of(budget)
                said = f"Pod was expected by PDB {namespace}/{namespace} to be deleted but it wasn't"
                self._recorder.event(pod, "Warning", "NotDeleted", said)
                continue
            kept[name_of(pod)] = moment
            again = left if again is None else min(again, left)
        return kept, again

    # --- how many there should be

    async def _expected(self, budget: Object, pods: Sequence[Object]) -> Expectation:
        spec = budget.get("spec") or {}
        most, least = spec.get("maxUnavailable"), spec.get("minAvailable")
        if most is not None:
            total, unmanaged = await self._scale(pods)
            return Expectation(total, max(0, total - scaled(most, total, round_up=True)), unmanaged)
        if isinstance(least, str):
            total, unmanaged = await self._scale(pods)
            return Expectation(total, scaled(least, total, round_up=True), unmanaged)
        return Expectation(len(pods), int(least or 0)) if least is not None else Expectation(0, 0)

    async def _scale(self, pods: Sequence[Object]) -> tuple[int, bool]:
        """The replicas of everything the pods belong to, and whether some belong to nothing."""
        known_scales: dict[str, int] = {}
        seen: set[str] = set()
        unmanaged = False
        for pod in pods:
            owner = controller_of(pod)
            if owner is None:
                unmanaged = True
                continue
            uid = owner.get("uid") or ""
            if uid in seen:
                continue
            seen.add(uid)
            found = await self._scale_of(owner, namespace_of(pod))
            if found is None:
                raise UnknownScale(f'found no controllers for pod "{name_of(pod)}"')
            known_scales[found[0]] = found[1]
        return sum(known_scales.values()), unmanaged

    async def _scale_of(self, owner: Object, namespace: str) -> tuple[str, int] | None:
        """The uid and replicas of what owns a pod: of its Deployment, where a ReplicaSet has one."""
        version = GroupVersion.parse(owner.get("apiVersion") or "")
        group = "apps" if version.group == "extensions" else version.group
        informer = self._owners.get((owner.get("kind") or "", group))
        if informer is None:
            return await self._scale_by_subresource(owner, version, namespace)
        found = informer.store.get(ObjectKey(namespace, owner.get("name") or ""))
        if found is None or uid_of(found) != owner.get("uid"):
            return None
        upper = controller_of(found)
        if owner.get("kind") == "ReplicaSet" and upper is not None and upper.get("kind") == "Deployment":
            deployment = self._deployments.store.get(ObjectKey(namespace, upper.get("name") or ""))
            if deployment is None or uid_of(deployment) != upper.get("uid"):
                return None
            found = deployment
        return uid_of(found), int(get_path(found, "spec", "replicas", default=1))

    async def _scale_by_subresource(
        self, owner: Object, version: GroupVersion, namespace: str
    ) -> tuple[str, int] | None:
        kind = owner.get("kind") or ""
        resource = await self._resource_of(kind, version)
        key = ObjectKey(namespace, owner.get("name") or "")
        try:
            scale = await self._client.get(resource, key, subresource="scale")
        except NotFound as error:
            try:
                await self._client.get(resource, key)
            except NotFound:
                return None
            raise UnknownScale(f"{resource.qualified} does not implement the scale subresource") from error
        if uid_of(scale) != owner.get("uid"):
            return None
        return uid_of(scale), int(get_path(scale, "spec", "replicas", default=0))

    async def _resource_of(self, kind: str, version: GroupVersion) -> Resource:
        for each in await discover(self._client, ignore_stale=True):
            if each.kind == kind and each.group == version.group:
                return dataclasses.replace(each, version=version.version)
        raise UnknownScale(f'no matches for kind "{kind}" in version "{version}"')

    # --- pods that stay

    async def clear_stale(self, key: ObjectKey) -> Outcome:
        """Take back that a pod is to go, when it is still there long after."""
        pod = self._pods.store.get(key)
        seconds = None if pod is None else stale_in_seconds(pod, self._context.now())
        if pod is None or seconds is None:
            return Done()
        if seconds > 0:
            return RequeueAfter(seconds)
        cleared = {"type": TARGET, "status": "False", "lastProbeTime": None}
        cleared["lastTransitionTime"] = self._context.timestamp()
        status = pod["status"]
        conditions = [cleared if each.get("type") == TARGET else each for each in status["conditions"]]
        try:
            changed = {**pod, "status": {**status, "conditions": conditions}}
            await self._client.update(PODS, changed, subresource="status")
        except NotFound:
            return Done()
        return Done()
