"""NoExecute taints: pods that do not tolerate them go, at once or when their tolerationSeconds are over.

Source: kubernetes ``pkg/controller/tainteviction``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api.errors import NotFound
from anynode.api.objects import Object, ObjectKey, condition_of, get_path, is_deleting, key_of, meta, name_of, uid_of
from anynode.api.resources import known
from anynode.client.api_client import PatchKind
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.node_fit import tolerates
from anynode.controllers.pods import PODS, names_node
from anynode.controllers.selection import index_nodes, on_node
from anynode.controllers.times import timestamp
from anynode.informers.controller import Done, Outcome, RequeueAfter
from anynode.informers.informer import Delta

NODES = known("nodes")


def no_execute(node: Object | None) -> list[Object]:
    taints = get_path(node or {}, "spec", "taints", default=())
    return [each for each in taints if each.get("effect") == "NoExecute"]


def seconds_tolerated(tolerations: Sequence[Object], taints: Sequence[Object]) -> float | None:
    """How long a pod may stay from when the taints came; None for good, 0 not at all."""
    used = []
    for taint in taints:
        fitting = [each for each in tolerations if tolerates(each, taint)]
        if not fitting:
            return 0.0
        used.append(fitting[0])
    limits = [each["tolerationSeconds"] for each in used if each.get("tolerationSeconds") is not None]
    return max(0.0, float(min(limits))) if limits else None


class TaintEvictionController:
    """Evicts pods from tainted nodes."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._nodes = context.informers.informer(NODES)
        self._pods = context.informers.informer(PODS)
        index_nodes(self._pods.store)
        self._due: dict[ObjectKey, tuple[str, float]] = {}
        """Scheduled evictions: pod -> its UID, and when (monotonic)."""
        self._recorder = context.recorder("taint-eviction-controller")
        self._controller = context.controller("taint-eviction", self.reconcile, workers=8)
        self._nodes.subscribe(self._node_changed)
        self._pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._nodes, self._pods))

    def _node_changed(self, delta: Delta) -> None:
        before = no_execute(delta.old) if delta.kind == "modified" else []
        after = no_execute(delta.obj) if delta.kind != "deleted" else []
        if before != after:
            for pod in on_node(self._pods.store, name_of(delta.obj)):
                self._controller.queue.add(key_of(pod))

    def _pod_changed(self, delta: Delta) -> None:
        pod, key = delta.obj, key_of(delta.obj)
        if delta.kind == "deleted":
            if key in self._due:
                self._controller.queue.add(key)
            return
        node = names_node(pod)
        if not node or not no_execute(self._nodes.store.get(ObjectKey("", node))):
            return
        old = delta.old if delta.kind == "modified" else None
        if old is None or names_node(old) != node or _tolerations(old) != _tolerations(pod):
            self._controller.queue.add(key)

    async def reconcile(self, key: ObjectKey) -> Outcome:
        pod = self._pods.store.get(key)
        if pod is None:
            self._cancel(key)
            return Done()
        if is_deleting(pod):
            self._due.pop(key, None)
            return Done()
        taints = no_execute(self._nodes.store.get(ObjectKey("", names_node(pod))))
        seconds = seconds_tolerated(_tolerations(pod), taints) if taints else None
        if seconds is None:
            self._cancel(key)
            return Done()
        now = self._context.clock.monotonic()
        uid, due = self._due.get(key, ("", 0.0))
        if uid != uid_of(pod) or seconds == 0:
            due = now + seconds
            self._due[key] = (uid_of(pod), due)
        if due > now:
            return RequeueAfter(due - now)
        await self._evict(key, pod)
        return Done()

    def _cancel(self, key: ObjectKey) -> None:
        if self._due.pop(key, None) is not None:
            self._tell(key, f"Cancelling deletion of Pod {key}")

    def _tell(self, key: ObjectKey, message: str) -> None:
        regarding = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": key.name, "namespace": key.namespace},
        }
        self._recorder.event(regarding, "Normal", "TaintManagerEviction", message)

    async def _evict(self, key: ObjectKey, pod: Object) -> None:
        self._tell(key, f"Marking for deletion Pod {key}")
        reason = "DeletionByTaintManager"
        try:
            if not is_disrupted(pod, reason):
                message = "Taint manager: deleting due to NoExecute taint"
                patch = disruption_patch(pod, reason, message, self._context.now())
                await self._client.patch(PODS, key, patch, kind=PatchKind.STRATEGIC, subresource="status")
            await self._client.delete(PODS, key, uid=uid_of(pod))
        except NotFound:
            pass
        self._due.pop(key, None)


def _tolerations(pod: Object) -> Sequence[Object]:
    found: Sequence[Object] = get_path(pod, "spec", "tolerations", default=())
    return found


def is_disrupted(pod: Object, reason: str) -> bool:
    condition = condition_of(pod, "DisruptionTarget")
    return condition is not None and (condition.get("status"), condition.get("reason")) == ("True", reason)


def disruption_patch(pod: Object, reason: str, message: str, now: float) -> Object:
    """A strategic merge patch of the status that says why the pod is being removed."""
    condition: Object = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastTransitionTime": timestamp(now),
        "reason": reason,
        "message": message,
    }
    generation = meta(pod).get("generation")
    if generation and get_path(pod, "status", "observedGeneration"):
        condition["observedGeneration"] = generation
    return {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [condition]}}
