"""Namespace deletion: pods first, then everything else that is served, then the finalizer.

In: a Namespace being deleted. Out: collections deleted, conditions that say what remains, and ``/finalize`` when
nothing does. Source: kubernetes ``pkg/controller/namespace/deletion``, 1.36; KEP-5080.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Sequence

from anynode.api.errors import ApiError, MethodNotAllowed, NotFound
from anynode.api.objects import Object, ObjectKey, find_condition, get_path, is_deleting, key_of, meta, name_of
from anynode.api.resources import Catalogue, Resource, known
from anynode.client.discovery import Served, look
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.pods import PODS, is_terminal
from anynode.controllers.served_kinds import Look
from anynode.controllers.times import seconds_of, timestamp
from anynode.informers.controller import Done, Outcome, RequeueAfter
from anynode.informers.informer import Delta

NAMESPACES = known("namespaces")
FINALIZER = "kubernetes"
FINALIZER_ESTIMATE_SECONDS = 15
SETTLE_SECONDS = 0.2
"""Before looking at a Namespace just deleted: other servers may still be admitting objects into it."""
LOOK_AGAIN_SECONDS = 1.0
MOST_LOOK_AGAIN_SECONDS = 60.0
"""As often, and at the least as often, as a Namespace is looked at that cannot go."""

_FINE = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}


@dataclasses.dataclass(slots=True)
class Remains:
    """What is left in a Namespace after a round of deletions."""

    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    finalizers: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    failures: list[str] = dataclasses.field(default_factory=list)
    discovery_failure: str = ""
    estimate_seconds: int = 0

    @property
    def nothing(self) -> bool:
        return not self.counts and not self.failures and not self.discovery_failure


def plan_conditions(conditions: Sequence[Object], remains: Remains, now: float) -> list[Object]:
    """The five conditions of a dying Namespace; ``conditions`` itself where nothing changed."""
    found = list(conditions)
    problems = _problems(remains)
    for kind, (reason, message) in _FINE.items():
        status = "True" if kind in problems else "False"
        reason, message = problems.get(kind, (reason, message))
        old = find_condition(found, kind)
        new = {
            "type": kind,
            "status": status,
            "lastTransitionTime": timestamp(now),
            "reason": reason,
            "message": message,
        }
        if old is None:
            found.append(new)
        elif (old.get("status"), old.get("reason"), old.get("message")) != (status, reason, message):
            if old.get("status") == status:
                new["lastTransitionTime"] = old.get("lastTransitionTime", new["lastTransitionTime"])
            found = [new if each is old else each for each in found]
    return found


def look_again_seconds(remains: Remains, age_seconds: float) -> float:
    """When to look again: often at first, then as seldom as upstream, which backs off where something failed."""
    most = remains.estimate_seconds / 2 + 1.0 if remains.estimate_seconds else MOST_LOOK_AGAIN_SECONDS
    least = LOOK_AGAIN_SECONDS if remains.estimate_seconds else LOOK_AGAIN_SECONDS / 2
    return min(most, max(least, age_seconds / 10))


def _is_last(namespace: Object) -> bool:
    """Whether nobody but this controller holds the Namespace, so that nobody will read its conditions."""
    return get_path(namespace, "spec", "finalizers") == [FINALIZER] and not meta(namespace).get("finalizers")


def _problems(remains: Remains) -> dict[str, tuple[str, str]]:
    problems = {}
    if remains.discovery_failure:
        problems["NamespaceDeletionDiscoveryFailure"] = ("DiscoveryFailed", remains.discovery_failure)
    if remains.failures:
        text = f"Failed to delete all resource types, {len(remains.failures)} remaining: "
        problems["NamespaceDeletionContentFailure"] = (
            "ContentDeletionFailed",
            text + ", ".join(sorted(remains.failures)),
        )
    if remains.counts:
        listed = sorted(f"{name} has {count} resource instances" for name, count in remains.counts.items())
        problems["NamespaceContentRemaining"] = (
            "SomeResourcesRemain",
            f"Some resources are remaining: {', '.join(listed)}",
        )
    if remains.finalizers:
        listed = sorted(f"{name} in {count} resource instances" for name, count in remains.finalizers.items())
        text = f"Some content in the namespace has finalizers remaining: {', '.join(listed)}"
        problems["NamespaceFinalizersRemaining"] = ("SomeFinalizersRemain", text)
    return problems


class NamespaceController:
    """Empties and releases Namespaces that are being deleted."""

    def __init__(self, context: ControllerContext, *, ask: Look | None = None) -> None:
        """``ask`` replaces asking the server what it serves."""
        self._context = context
        self._client = context.client
        self._ask = ask or self._ask_server
        self._namespaces = context.informers.informer(NAMESPACES)
        self._controller = context.controller("namespace", self.reconcile, workers=10)
        self._namespaces.subscribe(self._changed)

    def _changed(self, delta: Delta) -> None:
        if is_deleting(delta.obj):
            self._controller.queue.add_after(key_of(delta.obj), SETTLE_SECONDS)

    async def _ask_server(self) -> Served:
        return await look(self._client)

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._namespaces,))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        if self._namespaces.store.get(key) is None:
            return Done()
        try:
            namespace = await self._client.get(NAMESPACES, key)
        except NotFound:
            return Done()
        if not is_deleting(namespace) or not get_path(namespace, "spec", "finalizers"):
            return Done()
        if get_path(namespace, "status", "phase") != "Terminating":
            namespace = await self._with_status(namespace, {"phase": "Terminating"})
        deleted_at = seconds_of(meta(namespace)["deletionTimestamp"])
        remains = await self._empty(key.name, deleted_at)
        old = get_path(namespace, "status", "conditions", default=[])
        new = plan_conditions(old, remains, self._context.now())
        if new != old and not (remains.nothing and not old and _is_last(namespace)):
            namespace = await self._with_status(namespace, {"conditions": new})
        if not remains.nothing:
            return RequeueAfter(look_again_seconds(remains, self._context.now() - deleted_at))
        await self._finalize(namespace)
        return Done()

    async def _with_status(self, namespace: Object, status: Object) -> Object:
        wished = {**namespace, "status": {**(namespace.get("status") or {}), **status}}
        return await self._client.update(NAMESPACES, wished, subresource="status")

    async def _finalize(self, namespace: Object) -> None:
        spec = namespace.get("spec") or {}
        kept = [each for each in spec.get("finalizers") or () if each != FINALIZER]
        try:
            await self._client.update(
                NAMESPACES, {**namespace, "spec": {**spec, "finalizers": kept}}, subresource="finalize"
            )
        except NotFound:
            return

    async def _empty(self, namespace: str, deleted_at: float) -> Remains:
        remains = Remains()
        served = await self._discover(remains)
        deletable = [each for each in served.resources if each.namespaced and "delete" in each.verbs]
        await self._empty_of(PODS, namespace, deleted_at, remains)
        if remains.counts:
            return remains  # what pods use outlives them
        for resource in deletable:
            if (resource.group, resource.plural) != ("", "pods"):
                await self._empty_of(resource, namespace, deleted_at, remains)
        return remains

    async def _discover(self, remains: Remains) -> Served:
        """What is served. A group that is away holds the Namespace, but not the deletion of what others serve."""
        try:
            served = await self._ask()
        except ApiError as error:
            remains.discovery_failure = error.message
            return Served(Catalogue(()))
        if served.failures:
            text = f"Discovery failed for some groups, {len(served.failures)} failing: {served.failure}"
            remains.discovery_failure = text
        return served

    async def _empty_of(self, resource: Resource, namespace: str, deleted_at: float, remains: Remains) -> None:
        try:
            left = await self._list(resource, namespace)
            if not left and "list" in resource.verbs:
                return
            await self._delete_all(resource, namespace, left)
            left = await self._list(resource, namespace)
        except ApiError as error:
            remains.failures.append(error.message)
            return
        if not left:
            return
        name = f"{resource.plural}.{resource.group}"
        remains.counts[name] = len(left)
        held: collections.Counter[str] = collections.Counter(
            finalizer for each in left for finalizer in meta(each).get("finalizers") or ()
        )
        remains.finalizers.update(held)
        estimate = _grace_seconds(left) if resource.plural == "pods" else 0
        if self._context.now() - deleted_at >= estimate:
            estimate = FINALIZER_ESTIMATE_SECONDS if held else 0
        if not estimate:
            text = f"unexpected items still remain in namespace: {namespace} for gvr: {_text(resource)}"
            remains.failures.append(text)
        remains.estimate_seconds = max(remains.estimate_seconds, estimate)

    async def _list(self, resource: Resource, namespace: str) -> Sequence[Object]:
        if "list" not in resource.verbs:
            return ()
        try:
            return (await self._client.list(resource, namespace)).items
        except (MethodNotAllowed, NotFound):
            return ()

    async def _delete_all(self, resource: Resource, namespace: str, items: Sequence[Object]) -> None:
        if "deletecollection" in resource.verbs:
            with contextlib.suppress(MethodNotAllowed, NotFound):
                await self._client.delete_collection(resource, namespace, propagation="Background")
                return
        for each in items:
            try:
                await self._client.delete(resource, ObjectKey(namespace, name_of(each)), propagation="Background")
            except NotFound:
                continue


def _text(resource: Resource) -> str:
    return f"{resource.group}/{resource.version}, Resource={resource.plural}"


def _grace_seconds(pods: Sequence[Object]) -> int:
    return max(
        (get_path(pod, "spec", "terminationGracePeriodSeconds", default=0) for pod in pods if not is_terminal(pod)),
        default=0,
    )
