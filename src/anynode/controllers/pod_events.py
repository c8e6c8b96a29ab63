"""From pod events to owner keys: which workload has to look again, and what it has now seen.

Source: the pod handlers of kubernetes ``pkg/controller/replicaset/replica_set.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable

from anynode.api.objects import Object, ObjectKey, controller_of, is_deleting, key_of, labels_of, namespace_of, uid_of
from anynode.controllers.ownership import Expectations
from anynode.controllers.selection import selecting
from anynode.informers.informer import Delta, Informer


class PodEvents:
    """Hand ``handle`` to a pod informer; the store of ``owners`` must have ``index_selectors``."""

    def __init__(self, owners: Informer, enqueue: Callable[[ObjectKey], None], expectations: Expectations) -> None:
        self._owners = owners
        self._kind = owners.resource.kind
        self._group = owners.resource.group
        self._enqueue = enqueue
        self._expectations = expectations

    def handle(self, delta: Delta) -> None:
        if delta.kind == "deleted":
            self._gone(delta.obj)
        elif delta.kind == "added":
            self._added(delta.obj)
        elif delta.old is not None:
            self._modified(delta.old, delta.obj)

    def owner_key(self, pod: Object) -> ObjectKey | None:
        """The key of the owner of our kind that controls ``pod``, if it is known."""
        reference = controller_of(pod)
        if reference is None or reference.get("kind") != self._kind:
            return None
        if (reference.get("apiVersion") or "").rpartition("/")[0] != self._group:
            return None
        key = ObjectKey(namespace_of(pod), reference.get("name") or "")
        owner = self._owners.store.get(key)
        return key if owner is not None and uid_of(owner) == reference.get("uid") else None

    def _added(self, pod: Object) -> None:
        if controller_of(pod) is None:
            self._offer(pod)
            return
        key = self.owner_key(pod)
        if key is None:
            return
        self._expectations.created(key)
        if is_deleting(pod):
            self._expectations.deleted(key, uid_of(pod))
        self._enqueue(key)

    def _modified(self, old: Object, pod: Object) -> None:
        before, after = self.owner_key(old), self.owner_key(pod)
        if before is not None and before != after:
            self._enqueue(before)
        if after is not None:
            if is_deleting(pod):
                self._expectations.deleted(after, uid_of(pod))
            self._enqueue(after)
        elif controller_of(pod) is None and (before is not None or labels_of(old) != labels_of(pod)):
            self._offer(pod)

    def _gone(self, pod: Object) -> None:
        key = self.owner_key(pod)
        if key is not None:
            self._expectations.deleted(key, uid_of(pod))
            self._enqueue(key)

    def _offer(self, pod: Object) -> None:
        """An orphan: whoever selects it may adopt it."""
        if is_deleting(pod):
            return
        for owner in selecting(self._owners.store, pod):
            self._enqueue(key_of(owner))
