"""Binds claims to volumes that exist, and says of both where they are: Pending, Bound, Lost; Available, Released.

Volumes are made and destroyed by provisioners of their own, which the claim is marked for.
Source: kubernetes ``pkg/controller/volume/persistentvolume/pv_controller.go``, 1.36.
"""

from __future__ import annotations

from anynode.aio.tasks import Supervisor
from anynode.api.errors import NotFound
from anynode.api.objects import (
    Object,
    ObjectKey,
    annotations_of,
    get_path,
    is_deleting,
    key_of,
    name_of,
    uid_of,
    with_meta,
)
from anynode.api.resources import Resource, known
from anynode.controllers import volume_binding
from anynode.controllers.context import ControllerContext
from anynode.controllers.storage_protection import CLAIMS, VOLUMES
from anynode.controllers.volume_binding import BIND_COMPLETED
from anynode.informers.controller import Done, Outcome
from anynode.informers.informer import Delta

CLASSES = known("storageclasses", "storage.k8s.io")
NO_PROVISIONER = "kubernetes.io/no-provisioner"
_NONE_THERE = "no persistent volumes available for this claim and no storage class is set"
_BY_VOLUME = "volume"


class PersistentVolumeBinder:
    """Keeps claims and volumes together."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._recorder = context.recorder("persistentvolume-controller")
        self._claims = context.informers.informer(CLAIMS)
        self._volumes = context.informers.informer(VOLUMES)
        self._classes = context.informers.informer(CLASSES)
        self._claims.store.add_index(_BY_VOLUME, _volume_of)
        self._claim_work = context.controller("persistentvolume-binder-claims", self.bind_claim, workers=1)
        self._volume_work = context.controller("persistentvolume-binder-volumes", self.settle_volume, workers=1)
        self._claims.subscribe(self._claim_changed)
        self._volumes.subscribe(self._volume_changed)
        self._classes.subscribe(lambda _: self._look_at_waiting())

    async def run(self) -> None:
        for informer in (self._claims, self._volumes, self._classes):
            await informer.wait_synced()
        async with Supervisor("persistentvolume-binder", clock=self._context.clock) as tasks:
            tasks.start("claims", self._claim_work.run)
            await tasks.start("volumes", self._volume_work.run)

    def _claim_changed(self, delta: Delta) -> None:
        self._claim_work.queue.add(key_of(delta.obj))
        for name in _volume_of(delta.obj):
            self._volume_work.queue.add(ObjectKey("", name))

    def _volume_changed(self, delta: Delta) -> None:
        self._volume_work.queue.add(key_of(delta.obj))
        reference = get_path(delta.obj, "spec", "claimRef")
        if reference is not None:
            self._claim_work.queue.add(ObjectKey(reference.get("namespace") or "", reference.get("name") or ""))
        for claim in self._claims.store.by_index(_BY_VOLUME, name_of(delta.obj)):
            self._claim_work.queue.add(key_of(claim))
        if delta.kind != "deleted" and reference is None and _phase(delta.obj) == "Available":
            self._look_at_waiting()

    def _look_at_waiting(self) -> None:
        for claim in self._claims.store:
            if BIND_COMPLETED not in annotations_of(claim):
                self._claim_work.queue.add(key_of(claim))

    # --- claims

    async def bind_claim(self, key: ObjectKey) -> Outcome:
        claim = self._claims.store.get(key)
        if claim is None:
            return Done()
        try:
            if BIND_COMPLETED in annotations_of(claim):
                await self._keep_bound(claim)
            elif not is_deleting(claim):
                await self._bind_new(claim)
        except NotFound:
            return Done()
        return Done()

    async def _bind_new(self, claim: Object) -> None:
        named = get_path(claim, "spec", "volumeName")
        storage_class = self._classes.store.get(ObjectKey("", volume_binding.class_of(claim)))
        wait = volume_binding.waits_for_pod(claim, storage_class)
        volume: Object | None
        if named:
            volume = self._volumes.store.get(ObjectKey("", named))
            if volume is not None and get_path(volume, "spec", "claimRef") is not None:
                volume = volume if volume_binding.is_reserved_for(volume, claim) else None
        else:
            volume = volume_binding.best_volume(claim, self._volumes.store, wait=wait)
        if volume is not None:
            await self._bind(claim, volume)
            return
        if not named:
            claim = await self._ask_provisioner(claim, storage_class, wait=wait)
        await self._set_phase(CLAIMS, claim, "Pending")

    async def _ask_provisioner(self, claim: Object, storage_class: Object | None, *, wait: bool) -> Object:
        """The claim marked for whoever makes volumes of its class, or told why there is none."""
        if wait:
            said = "waiting for first consumer to be created before binding"
            self._recorder.event(claim, "Normal", "WaitForFirstConsumer", said)
            return claim
        name = volume_binding.class_of(claim)
        if not name:
            self._recorder.event(claim, "Normal", "FailedBinding", _NONE_THERE)
            return claim
        if storage_class is None:
            said = f'storageclass.storage.k8s.io "{name}" not found'
            self._recorder.event(claim, "Warning", "ProvisioningFailed", said)
            return claim
        provisioner = storage_class.get("provisioner") or ""
        if provisioner == NO_PROVISIONER:
            return claim
        annotations = annotations_of(claim)
        if any(annotations.get(each) != provisioner for each in volume_binding.PROVISIONERS):
            marks = dict.fromkeys(volume_binding.PROVISIONERS, provisioner)
            claim = await self._client.update(CLAIMS, with_meta(claim, annotations={**annotations, **marks}))
        said = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the "
            "system administrator. If volume creation is delayed, please verify that the provisioner is running and "
            "correctly registered."
        )
        self._recorder.event(claim, "Normal", "ExternalProvisioning", said)
        return claim

    async def _bind(self, claim: Object, volume: Object) -> None:
        """Four writes, each left out where it is done; whoever is cut off goes on from there."""
        changed = volume_binding.bound_volume(volume, claim)
        if changed is not volume:
            volume = await self._client.update(VOLUMES, changed)
        await self._set_phase(VOLUMES, volume, "Bound")
        held = volume_binding.bound_claim(claim, volume)
        if held is not claim:
            claim = await self._client.update(CLAIMS, held)
        status = volume_binding.bound_status(claim, volume)
        if status != claim.get("status"):
            await self._client.update(CLAIMS, {**claim, "status": status}, subresource="status")

    async def _keep_bound(self, claim: Object) -> None:
        name = get_path(claim, "spec", "volumeName")
        volume = self._volumes.store.get(ObjectKey("", name or ""))
        if volume is None:
            await self._lose(
                claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
            )
        elif get_path(volume, "spec", "claimRef") is None or volume_binding.is_reserved_for(volume, claim):
            await self._bind(claim, volume)
        else:
            said = "Two claims are bound to the same volume, this one is bound incorrectly"
            await self._lose(claim, "ClaimMisbound", said)

    async def _lose(self, claim: Object, reason: str, message: str) -> None:
        if _phase(claim) != "Lost":
            await self._set_phase(CLAIMS, claim, "Lost")
            self._recorder.event(claim, "Warning", reason, message)

    # --- volumes

    async def settle_volume(self, key: ObjectKey) -> Outcome:
        volume = self._volumes.store.get(key)
        if volume is None:
            return Done()
        reference = get_path(volume, "spec", "claimRef")
        try:
            if reference is None or not reference.get("uid"):
                await self._set_phase(VOLUMES, volume, "Available")
                return Done()
            claim = self._claims.store.get(ObjectKey(reference.get("namespace") or "", reference.get("name") or ""))
            if claim is None or uid_of(claim) != reference["uid"]:
                if _phase(volume) not in ("Released", "Failed"):
                    await self._set_phase(VOLUMES, volume, "Released")
            elif get_path(claim, "spec", "volumeName") == key.name:
                await self._set_phase(VOLUMES, volume, "Bound")
            elif get_path(claim, "spec", "volumeName"):
                await self._client.update(VOLUMES, volume_binding.freed_volume(volume))
            else:
                self._claim_work.queue.add(key_of(claim))
        except NotFound:
            return Done()
        return Done()

    async def _set_phase(self, resource: Resource, obj: Object, phase: str) -> None:
        if _phase(obj) == phase:
            return
        status = {**(obj.get("status") or {}), "phase": phase}
        await self._client.update(resource, {**obj, "status": status}, subresource="status")


def _phase(obj: Object) -> str:
    found: str = get_path(obj, "status", "phase", default="")
    return found


def _volume_of(claim: Object) -> list[str]:
    name = get_path(claim, "spec", "volumeName")
    return [name] if name else []
