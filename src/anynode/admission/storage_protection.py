"""StorageObjectInUseProtection: claims, volumes and attribute classes carry a finalizer that a controller takes off.

The controller does so once the object is being deleted and nobody uses it; where none runs, the object stays.
Source: kubernetes ``plugin/pkg/admission/storage/storageobjectinuseprotection``, 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping

from anynode.admission.chain import Attributes, Plugin
from anynode.api import objects
from anynode.api.objects import Object

FINALIZERS: Mapping[str, str] = {
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
    "persistentvolumes": "kubernetes.io/pv-protection",
    "volumeattributesclasses.storage.k8s.io": "kubernetes.io/vac-protection",
}


class StorageObjectInUseProtection(Plugin):
    name = "StorageObjectInUseProtection"
    operations = frozenset({"CREATE"})
    resources = frozenset(FINALIZERS)

    async def admit(self, attributes: Attributes) -> Object | None:
        obj = attributes.obj
        if obj is None:
            return None
        finalizer = FINALIZERS[attributes.resource.qualified]
        present = objects.meta(obj).get("finalizers") or []
        return obj if finalizer in present else objects.with_meta(obj, finalizers=[*present, finalizer])
