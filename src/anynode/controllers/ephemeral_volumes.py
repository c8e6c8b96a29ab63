"""Pods with ephemeral volumes get a claim for each, which lives as long as they do.

Source: kubernetes ``pkg/controller/volume/ephemeral``, component-helpers ``storage/ephemeral``, 1.36; KEP-1698.
"""

from __future__ import annotations

from collections.abc import Iterator

from anynode.api.errors import AlreadyExists, ApiError
from anynode.api.objects import (
    Object,
    ObjectKey,
    get_path,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    uid_of,
)
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.ownership import controller_reference
from anynode.controllers.pods import PODS, is_namespace_terminating
from anynode.controllers.storage_protection import CLAIMS
from anynode.informers.controller import Done, Outcome, RequeueAfter
from anynode.informers.informer import Delta

CONFLICT_SECONDS = 10.0
"""When to look again whether a claim of somebody else, in the way of a pod's own, is gone."""


def claims_for(pod: Object) -> Iterator[Object]:
    """The claims a pod's ephemeral volumes ask for."""
    for volume in get_path(pod, "spec", "volumes", default=()):
        template = get_path(volume, "ephemeral", "volumeClaimTemplate")
        if template is None:
            continue
        given = template.get("metadata") or {}
        kept = {field: given[field] for field in ("labels", "annotations") if given.get(field)}
        metadata = {
            "name": f"{name_of(pod)}-{volume['name']}",
            "namespace": namespace_of(pod),
            **kept,
            "ownerReferences": [controller_reference(pod, PODS)],
        }
        yield {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template.get("spec")}


class EphemeralVolumeController:
    """Creates claims; they go with their pod."""

    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._recorder = context.recorder("ephemeral_volume")
        self._pods = context.informers.informer(PODS)
        self._claims = context.informers.informer(CLAIMS)
        self._controller = context.controller("ephemeral-volume", self.reconcile)
        self._pods.subscribe(self._pod_changed)
        self._claims.subscribe(self._claim_changed)

    def _pod_changed(self, delta: Delta) -> None:
        if delta.kind != "deleted" and any(
            volume.get("ephemeral") is not None for volume in get_path(delta.obj, "spec", "volumes", default=())
        ):
            self._controller.queue.add(key_of(delta.obj))

    def _claim_changed(self, delta: Delta) -> None:
        """A claim that went may be needed again."""
        if delta.kind == "deleted":
            for reference in delta.obj["metadata"].get("ownerReferences") or ():
                if reference.get("kind") == "Pod" and reference.get("controller"):
                    self._controller.queue.add(ObjectKey(namespace_of(delta.obj), reference.get("name") or ""))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._pods, self._claims))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        pod = self._pods.store.get(key)
        if pod is None or is_deleting(pod):
            return Done()
        for claim in claims_for(pod):
            found = self._claims.store.get(key_of(claim))
            if found is None:
                await self._create(pod, claim)
            elif not _belongs(found, pod):
                self._tell(pod, claim, f"PVC {key_of(found)} was not created for pod {key} (pod is not owner)")
                return RequeueAfter(CONFLICT_SECONDS)
        return Done()

    async def _create(self, pod: Object, claim: Object) -> None:
        try:
            await self._client.create(CLAIMS, claim)
        except AlreadyExists:
            return
        except ApiError as error:
            if is_namespace_terminating(error):
                return
            self._tell(pod, claim, f"create PVC {name_of(claim)}: {error.message}")
            raise

    def _tell(self, pod: Object, claim: Object, why: str) -> None:
        volume = name_of(claim).removeprefix(f"{name_of(pod)}-")
        self._recorder.event(pod, "Warning", "FailedBinding", f"ephemeral volume {volume}: {why}")


def _belongs(claim: Object, pod: Object) -> bool:
    references = claim["metadata"].get("ownerReferences") or ()
    return any(each.get("controller") and each.get("uid") == uid_of(pod) for each in references)
