"""Who depends on whom, by UID: the owner graph of the garbage collector. Pure.

In: objects as informers show them. Out: UIDs to look at. An owner need not be known: its dependents are kept under its
UID all the same, and whoever looks at them asks the server. Source: kubernetes
``pkg/controller/garbagecollector/{graph,graph_builder}.go``, 1.36.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence

from anynode.api.objects import Object, ObjectKey, is_deleting, key_of, meta, uid_of
from anynode.api.resources import GroupVersion, Resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What the collector knows of one object."""

    uid: str
    resource: Resource
    key: ObjectKey
    owners: Sequence[Object]
    finalizers: Sequence[str]
    deleting: bool

    @property
    def waits_for_dependents(self) -> bool:
        """Whether it is being deleted in the foreground."""
        return self.deleting and FOREGROUND in self.finalizers

    @property
    def orphans_dependents(self) -> bool:
        return self.deleting and ORPHAN in self.finalizers

    def owner(self, uid: str) -> Object | None:
        """Its reference to the owner with this UID."""
        return next((each for each in self.owners if each.get("uid") == uid), None)

    def blocks(self, uid: str) -> bool:
        """Whether the owner with this UID must not go before this object."""
        reference = self.owner(uid)
        return reference is not None and bool(reference.get("blockOwnerDeletion"))


def node_of(resource: Resource, obj: Object) -> Node:
    metadata = meta(obj)
    return Node(
        uid=uid_of(obj),
        resource=resource,
        key=key_of(obj),
        owners=metadata.get("ownerReferences") or (),
        finalizers=metadata.get("finalizers") or (),
        deleting=is_deleting(obj),
    )


def is_same(old: Object, new: Object) -> bool:
    """Whether nothing changed that a ``Node`` knows of."""
    one, two = meta(old), meta(new)
    return all(one.get(field) == two.get(field) for field in ("ownerReferences", "finalizers", "deletionTimestamp"))


@dataclasses.dataclass(slots=True)
class Work:
    """UIDs to look at: whether to delete them, or to let their dependents go free."""

    delete: list[str] = dataclasses.field(default_factory=list)
    orphan: list[str] = dataclasses.field(default_factory=list)


class Graph:
    """All objects by UID, and dependents by their owner's UID."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._dependents: collections.defaultdict[str, set[str]] = collections.defaultdict(set)

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, uid: str) -> Node | None:
        return self._nodes.get(uid)

    def has_dependents(self, uid: str) -> bool:
        return bool(self._dependents.get(uid))

    def dependents(self, uid: str) -> list[Node]:
        return [self._nodes[each] for each in self._dependents.get(uid, ()) if each in self._nodes]

    def observe(self, node: Node) -> Work:
        """``node`` was made or changed."""
        work = Work()
        old = self._nodes.get(node.uid)
        self._nodes[node.uid] = node
        before = _owner_uids(old.owners if old is not None else ())
        after = _owner_uids(node.owners)
        for uid in after - before:
            self._dependents[uid].add(node.uid)
            owner = self._nodes.get(uid)
            if owner is None or owner.waits_for_dependents or not is_valid(node, node.owner(uid) or {}, owner):
                work.delete.append(node.uid)
        self._let_go(node.uid, before - after, work)
        if old is not None:
            unblocked = {uid for uid in before & after if old.blocks(uid) and not node.blocks(uid)}
            work.delete.extend(uid for uid in unblocked if self._waits(uid))
        if node.orphans_dependents and not (old is not None and old.orphans_dependents):
            work.orphan.append(node.uid)
        if node.waits_for_dependents and not (old is not None and old.waits_for_dependents):
            work.delete.extend(self._dependents.get(node.uid, ()))
            work.delete.append(node.uid)
        return work

    def forget(self, uid: str) -> Work:
        """The object is gone."""
        work = Work()
        node = self._nodes.pop(uid, None)
        if node is None:
            return work
        self._let_go(uid, _owner_uids(node.owners), work)
        work.delete.extend(self._dependents.get(uid, ()))
        return work

    def _let_go(self, uid: str, owners: Iterable[str], work: Work) -> None:
        for owner in owners:
            held = self._dependents.get(owner)
            if held is not None:
                held.discard(uid)
                if not held:
                    del self._dependents[owner]
            if self._waits(owner):
                work.delete.append(owner)

    def _waits(self, uid: str) -> bool:
        node = self._nodes.get(uid)
        return node is not None and node.waits_for_dependents


def _owner_uids(owners: Iterable[Object]) -> set[str]:
    return {str(each.get("uid")) for each in owners}


def is_valid(node: Node, reference: Object, owner: Node) -> bool:
    """Whether ``reference`` names ``owner`` rightly: its kind, its name, and its namespace (or none)."""
    group = GroupVersion.parse(reference.get("apiVersion") or "").group
    if (group, reference.get("kind"), reference.get("name")) != (
        owner.resource.group,
        owner.resource.kind,
        owner.key.name,
    ):
        return False
    return not owner.resource.namespaced or owner.key.namespace == node.key.namespace
