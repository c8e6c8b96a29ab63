"""Claims, volumes and attribute classes that are being deleted go once nobody uses them.

Admission puts the finalizers on, these controllers take them off (and put them on objects from before). A claim is used
by scheduled pods that mount it, a volume while it is bound, a class while a claim or volume names it.
Source: kubernetes ``pkg/controller/volume/{pvcprotection,pvprotection,vacprotection}``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from anynode.api.errors import NotFound
from anynode.api.objects import (
    Object,
    ObjectKey,
    controller_of,
    get_path,
    is_deleting,
    key_of,
    meta,
    name_of,
    namespace_of,
    uid_of,
    with_meta,
)
from anynode.api.resources import Resource, known
from anynode.client.api_client import ApiClient
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.pods import PODS, is_terminal
from anynode.informers.controller import Done, Outcome
from anynode.informers.informer import Delta, Informer

CLAIMS = known("persistentvolumeclaims")
VOLUMES = known("persistentvolumes")
ATTRIBUTE_CLASSES = known("volumeattributesclasses", "storage.k8s.io")
CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
ATTRIBUTE_CLASS_FINALIZER = "kubernetes.io/vac-protection"
_BY_CLAIM = "claims"
_BY_CLASS = "attribute-classes"


def claims_of(pod: Object) -> list[str]:
    """The keys of the claims a pod's volumes may mean."""
    namespace = namespace_of(pod)
    found = []
    for volume in get_path(pod, "spec", "volumes", default=()):
        claim = volume.get("persistentVolumeClaim")
        if claim is not None:
            found.append(f"{namespace}/{claim.get('claimName', '')}")
        elif volume.get("ephemeral") is not None:
            found.append(f"{namespace}/{name_of(pod)}-{volume.get('name', '')}")
    return found


def uses(pod: Object, claim: Object) -> bool:
    """Whether a scheduled pod holds the claim; a pod that is over no longer holds what was made for it."""
    if not get_path(pod, "spec", "nodeName"):
        return False
    for volume in get_path(pod, "spec", "volumes", default=()):
        named = volume.get("persistentVolumeClaim")
        if named is not None and named.get("claimName") == name_of(claim):
            return True
        if volume.get("ephemeral") is not None and f"{name_of(pod)}-{volume.get('name')}" == name_of(claim):
            owner = controller_of(claim) or {}
            if owner.get("uid") == uid_of(pod) and not _is_shut_down(pod):
                return True
    return False


def _is_shut_down(pod: Object) -> bool:
    """Whether the node is done with the pod."""
    return is_deleting(pod) and meta(pod).get("deletionGracePeriodSeconds") == 0


def attribute_classes_of(obj: Object) -> list[str]:
    """The attribute classes a claim or a volume names."""
    found = {
        get_path(obj, "spec", "volumeAttributesClassName"),
        get_path(obj, "status", "currentVolumeAttributesClassName"),
        get_path(obj, "status", "modifyVolumeStatus", "targetVolumeAttributesClassName"),
    }
    return sorted(name for name in found if name)


async def settle(
    client: ApiClient, resource: Resource, obj: Object, finalizer: str, is_used: Callable[[], bool]
) -> None:
    """Take the finalizer off what is going and not used; put it on what stays and has none."""
    present = meta(obj).get("finalizers") or []
    if is_deleting(obj):
        if finalizer not in present or is_used():
            return
        left = [each for each in present if each != finalizer]
    elif finalizer in present:
        return
    else:
        left = [*present, finalizer]
    try:
        await client.update(resource, with_meta(obj, finalizers=left or None))
    except NotFound:
        return


class ClaimProtectionController:
    """Lets claims go that no pod uses."""

    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._claims = context.informers.informer(CLAIMS)
        self._pods = context.informers.informer(PODS)
        self._pods.store.add_index(_BY_CLAIM, claims_of)
        self._controller = context.controller("pvc-protection", self.reconcile)
        self._claims.subscribe(lambda delta: self._controller.queue.add(key_of(delta.obj)))
        self._pods.subscribe(self._pod_changed)

    def _pod_changed(self, delta: Delta) -> None:
        if delta.kind == "added" or not get_path(delta.obj, "spec", "volumes"):
            return
        if delta.kind == "deleted" or is_terminal(delta.obj) or _is_shut_down(delta.obj):
            for key in claims_of(delta.obj):
                namespace, _, name = key.partition("/")
                claim = self._claims.store.get(ObjectKey(namespace, name))
                if claim is not None and is_deleting(claim):
                    self._controller.queue.add(ObjectKey(namespace, name))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._claims, self._pods))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        claim = self._claims.store.get(key)
        if claim is not None:
            cached = any(uses(pod, claim) for pod in self._pods.store.by_index(_BY_CLAIM, str(key)))
            used = cached or (is_deleting(claim) and await self._is_used(key, claim))
            await settle(self._client, CLAIMS, claim, CLAIM_FINALIZER, lambda: used)
        return Done()

    async def _is_used(self, key: ObjectKey, claim: Object) -> bool:
        """The same of the server's pods: one may have come that the cache does not know."""
        page = await self._client.list(PODS, key.namespace)
        return any(uses(pod, claim) for pod in page.items)


class VolumeProtectionController:
    """Lets volumes go that are not bound."""

    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._volumes = context.informers.informer(VOLUMES)
        self._controller = context.controller("pv-protection", self.reconcile)
        self._volumes.subscribe(lambda delta: self._controller.queue.add(key_of(delta.obj)))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._volumes,))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        volume = self._volumes.store.get(key)
        if volume is not None:
            bound = get_path(volume, "status", "phase") == "Bound"
            await settle(self._client, VOLUMES, volume, VOLUME_FINALIZER, lambda: bound)
        return Done()


class AttributesClassProtectionController:
    """Lets attribute classes go that no claim and no volume names."""

    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._classes = context.informers.informer(ATTRIBUTE_CLASSES)
        self._users: Iterable[Informer] = (context.informers.informer(CLAIMS), context.informers.informer(VOLUMES))
        self._controller = context.controller("vac-protection", self.reconcile)
        self._classes.subscribe(lambda delta: self._controller.queue.add(key_of(delta.obj)))
        for informer in self._users:
            informer.store.add_index(_BY_CLASS, attribute_classes_of)
            informer.subscribe(self._user_changed)

    def _user_changed(self, delta: Delta) -> None:
        if delta.kind == "added":
            return
        before = delta.obj if delta.kind == "deleted" or delta.old is None else delta.old
        after = () if delta.kind == "deleted" else attribute_classes_of(delta.obj)
        for name in attribute_classes_of(before):
            if name not in after:
                self._controller.queue.add(ObjectKey("", name))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._classes, *self._users))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        found = self._classes.store.get(key)
        if found is not None:
            used = any(informer.store.by_index(_BY_CLASS, key.name) for informer in self._users)
            await settle(self._client, ATTRIBUTE_CLASSES, found, ATTRIBUTE_CLASS_FINALIZER, lambda: used)
        return Done()
