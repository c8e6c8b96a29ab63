"""The garbage collector: objects whose owners are gone go too.

In: every deletable kind the server serves; kinds join and leave as they are served. Out: deletions with UID and
resourceVersion preconditions, owner references taken off, the finalizers ``orphan`` and ``foregroundDeletion`` carried
out. Nothing is deleted on the word of the cache that an owner is missing: either its deletion was seen, or the server
is asked. Source: kubernetes ``pkg/controller/garbagecollector``, 1.36;
https://kubernetes.io/docs/concepts/architecture/garbage-collection/.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
from collections.abc import Callable

from anynode.aio.tasks import Supervisor
from anynode.api.errors import NotFound
from anynode.api.objects import Object, ObjectKey, meta, resource_version_of, uid_of
from anynode.api.resources import GroupVersion, Resource
from anynode.controllers.context import ControllerContext
from anynode.controllers.garbage_graph import FOREGROUND, ORPHAN, Graph, Node, Work, is_same, is_valid, node_of
from anynode.controllers.pods import in_parallel
from anynode.controllers.served_kinds import Kinds, Look, ServedKinds
from anynode.informers.controller import Controller, Done, Outcome, RequeueAfter
from anynode.informers.informer import Delta, Handler, Informer, identity

logger = logging.getLogger(__name__)

WORKERS = 20
UNKNOWN_KIND_SECONDS = 300.0
SYNC_SECONDS = 30.0
MOST_ABSENT = 5000
IGNORED = frozenset({("", "events"), ("events.k8s.io", "events")})


@dataclasses.dataclass(slots=True)
class Owners:
    """The owner references of one object, judged."""

    solid: list[Object] = dataclasses.field(default_factory=list)
    dangling: list[Object] = dataclasses.field(default_factory=list)
    waiting: list[Object] = dataclasses.field(default_factory=list)
    unknown: list[Object] = dataclasses.field(default_factory=list)


class GarbageCollector:
    """Deletes what nobody owns any more."""

    def __init__(self, context: ControllerContext, *, ask: Look | None = None) -> None:
        """``ask`` replaces asking the server what it serves."""
        self._context = context
        self._client = context.client
        self._factory = context.graph_informers or context.informers
        self._recorder = context.recorder("garbage-collector-controller")
        self._graph = Graph()
        self._served = ServedKinds(context, "garbage-collector", self.resync, ask=ask)
        self._informers: dict[tuple[str, str], tuple[Informer, Handler]] = {}
        self._unsynced: list[tuple[Informer, float]] = []
        """Informers still being filled, and since when."""
        self._by_kind: dict[tuple[str, str], Resource] = {}
        self._of_unknown_kinds: set[str] = set()
        """UIDs of objects with owners of kinds that are not served."""
        self._absent: collections.OrderedDict[tuple[str, str], None] = collections.OrderedDict()
        clock = context.clock
        self._deletions: Controller[str] = Controller("garbage-collector", self._look_at, clock=clock, workers=WORKERS)
        self._orphanings: Controller[str] = Controller(
            "garbage-collector-orphans", self._orphan, clock=clock, workers=WORKERS
        )

    async def run(self) -> None:
        """Collect until cancelled."""
        async with Supervisor("garbage-collector", clock=self._context.clock) as tasks:
            first = tasks.start("discovery", self._served.run)
            tasks.start("deletions", self._deletions.run)
            tasks.start("orphans", self._orphanings.run)
            await first

    def resync(self, kinds: Kinds) -> None:
        """Watch exactly these kinds, as far as their objects can be collected."""
        before = self._by_kind
        self._by_kind = {(each.group, each.kind): each for each in kinds.values()}
        wanted = {
            at: each
            for at, each in kinds.items()
            if at not in IGNORED and {"delete", "list", "watch"} <= set(each.verbs)
        }
        for at, (informer, _) in tuple(self._informers.items()):
            now_served = wanted.get(at)
            if now_served is None or identity(now_served) != identity(informer.resource):
                self._leave(at, gone=now_served is None)
        new = [(at, self._factory.informer(each)) for at, each in wanted.items() if at not in self._informers]
        now = self._context.clock.monotonic()
        self._unsynced.extend((informer, now) for _, informer in new)
        for at, informer in new:
            handler = self._handler(informer.resource)
            self._informers[at] = (informer, handler)
            informer.subscribe(handler)
        if self._by_kind.keys() - before.keys():
            for uid in self._of_unknown_kinds:
                self._deletions.queue.add(uid)
            self._of_unknown_kinds.clear()

    def _leave(self, at: tuple[str, str], *, gone: bool) -> None:
        """Watch this kind no more; with ``gone`` its objects can be no owners either."""
        informer, handler = self._informers.pop(at)
        informer.unsubscribe(handler)
        self._factory.release(informer)
        self._unsynced = [each for each in self._unsynced if each[0] is not informer]
        if gone:
            for obj in informer.store.list():
                self._enqueue(self._graph.forget(uid_of(obj)))

    def _handler(self, resource: Resource) -> Callable[[Delta], None]:
        def handle(delta: Delta) -> None:
            if delta.kind == "deleted":
                uid = uid_of(delta.obj)
                self._remember_absent(uid, "*")
                self._enqueue(self._graph.forget(uid))
            elif delta.kind == "added" or delta.old is None or not is_same(delta.old, delta.obj):
                self._enqueue(self._graph.observe(node_of(resource, delta.obj)))

        return handle

    def _enqueue(self, work: Work) -> None:
        for uid in work.delete:
            self._deletions.queue.add(uid)
        for uid in work.orphan:
            self._orphanings.queue.add(uid)

    def _remember_absent(self, uid: str, namespace: str) -> None:
        self._absent[(uid, namespace)] = None
        while len(self._absent) > MOST_ABSENT:
            self._absent.popitem(last=False)

    async def _look_at(self, uid: str) -> Outcome:
        node = self._graph.get(uid)
        if node is None or (node.deleting and not node.waits_for_dependents):
            return Done()
        if node.waits_for_dependents:
            await self._wait_for_dependents(node)
            return Done()
        if not node.owners:
            return Done()
        if self._unsynced and not self._is_synced():
            return RequeueAfter(0.2)  # an owner may be about to be listed: spare the server the question
        owners = await self._judge(node)
        if owners.unknown:
            self._of_unknown_kinds.add(uid)
            return RequeueAfter(UNKNOWN_KIND_SECONDS)
        try:
            await self._act(node, owners)
        except NotFound:
            return Done()
        return Done()

    def _is_synced(self) -> bool:
        """Whether all kinds are listed, or one cannot be (it may be forbidden to us): then the server is asked more."""
        latest = self._context.clock.monotonic() - SYNC_SECONDS
        self._unsynced = [each for each in self._unsynced if not each[0].synced and each[1] > latest]
        return not self._unsynced

    async def _wait_for_dependents(self, node: Node) -> None:
        """Finish a foreground deletion, or see to the dependents that block it."""
        blocking = [each for each in self._graph.dependents(node.uid) if each.blocks(node.uid)]
        if not blocking:
            await self._remove_finalizer(node, FOREGROUND)
            return
        for each in blocking:
            if not each.waits_for_dependents:
                self._deletions.queue.add(each.uid)

    async def _judge(self, node: Node) -> Owners:
        owners = Owners()
        for reference in node.owners:
            found = self._graph.get(reference.get("uid") or "")
            if found is not None and is_valid(node, reference, found):
                (owners.waiting if found.waits_for_dependents else owners.solid).append(reference)
                continue
            if found is not None:
                self._tell_invalid(node, reference)
            present = await self._is_present(node, reference)
            if present is None:
                owners.unknown.append(reference)
            else:
                (owners.solid if present else owners.dangling).append(reference)
        return owners

    async def _is_present(self, node: Node, reference: Object) -> bool | None:
        """Whether the server has this owner; None when that cannot be told."""
        uid = reference.get("uid") or ""
        if (uid, "*") in self._absent or (uid, node.key.namespace) in self._absent:
            return False
        group = GroupVersion.parse(reference.get("apiVersion") or "").group
        resource = self._by_kind.get((group, reference.get("kind") or ""))
        if resource is None or (resource.namespaced and not node.key.namespace):
            return None
        namespace = node.key.namespace if resource.namespaced else ""
        try:
            owner = await self._client.get(resource, ObjectKey(namespace, reference.get("name") or ""))
        except NotFound:
            self._remember_absent(uid, node.key.namespace)
            return False
        if uid_of(owner) != uid:
            self._remember_absent(uid, node.key.namespace)
            return False
        return True

    def _tell_invalid(self, node: Node, reference: Object) -> None:
        kind, name, uid = reference.get("kind"), reference.get("name"), reference.get("uid")
        at = f"{reference.get('apiVersion')}/{kind}, namespace: {node.key.namespace}"
        text = f"ownerRef [{at}, name: {name}, uid: {uid}]"
        regarding: Object = {
            "apiVersion": node.resource.api_version,
            "kind": node.resource.kind,
            "metadata": {"name": node.key.name, "namespace": node.key.namespace, "uid": node.uid},
        }
        message = f'{text} does not exist in namespace "{node.key.namespace}"'
        self._recorder.event(regarding, "Warning", "OwnerRefInvalidNamespace", message)

    async def _act(self, node: Node, owners: Owners) -> None:
        if owners.solid:
            gone = {each.get("uid") for each in (*owners.dangling, *owners.waiting)}
            if gone:
                await self._patch_owners(node, [each for each in node.owners if each.get("uid") not in gone])
            return
        policy = "Background"
        if owners.waiting and self._graph.has_dependents(node.uid):
            if any(each.waits_for_dependents for each in self._graph.dependents(node.uid)):
                # A circle: whoever waits for us must not, or all would wait forever.
                freed = [{**each, "blockOwnerDeletion": False} for each in node.owners]
                if freed != list(node.owners):
                    await self._patch_owners(node, freed)
                    return  # the event of this change brings us back
            policy = "Foreground"
        elif ORPHAN in node.finalizers:
            policy = "Orphan"
        elif FOREGROUND in node.finalizers:
            policy = "Foreground"
        await self._client.delete(
            node.resource, node.key, propagation=policy, uid=node.uid, resource_version=self._version(node)
        )
        logger.debug("object without owner deleted", extra={"object": f"{node.resource.kind} {node.key}"})

    async def _patch_owners(self, node: Node, owners: list[Object]) -> None:
        metadata = {
            "uid": node.uid,
            "resourceVersion": self._version(node),
            "ownerReferences": owners or None,
        }
        await self._client.patch(node.resource, node.key, {"metadata": metadata})

    def _version(self, node: Node) -> str | None:
        """The resourceVersion we decided on; with it a write fails if the object changed since."""
        watched = self._informers.get((node.resource.group, node.resource.plural))
        seen = None if watched is None else watched[0].store.get(node.key)
        return None if seen is None or uid_of(seen) != node.uid else resource_version_of(seen)

    async def _remove_finalizer(self, node: Node, finalizer: str) -> None:
        try:
            fresh = await self._client.get(node.resource, node.key)
            finalizers = list(meta(fresh).get("finalizers") or ())
            if uid_of(fresh) != node.uid or finalizer not in finalizers:
                return
            metadata = {
                "uid": node.uid,
                "resourceVersion": meta(fresh).get("resourceVersion"),
                "finalizers": [each for each in finalizers if each != finalizer] or None,
            }
            await self._client.patch(node.resource, node.key, {"metadata": metadata})
        except NotFound:
            return

    async def _orphan(self, uid: str) -> Outcome:
        """Take the references of all dependents off, then let the owner go."""
        owner = self._graph.get(uid)
        if owner is None or not owner.orphans_dependents:
            return Done()

        async def free(node: Node) -> None:
            try:
                await self._patch_owners(node, [each for each in node.owners if each.get("uid") != uid])
            except NotFound:
                return

        failures = await in_parallel(self._graph.dependents(uid), free)
        if failures:
            raise failures[0]
        await self._remove_finalizer(owner, ORPHAN)
        return Done()
