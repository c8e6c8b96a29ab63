"""DefaultStorageClass and DefaultIngressClass: claims and ingresses that name no class get the default one.

The newest class that is marked as default counts, of equally old ones the first by name.
Source: kubernetes ``plugin/pkg/admission/storage/storageclass/setdefault`` and ``network/defaultingressclass``, 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable

from anynode.admission.chain import Attributes, ListObjects, Plugin
from anynode.api import objects, resources
from anynode.api.objects import Object

STORAGE_MARKS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
INGRESS_MARKS = ("ingressclass.kubernetes.io/is-default-class",)
CLAIM_CLASS = "volume.beta.kubernetes.io/storage-class"
INGRESS_CLASS = "kubernetes.io/ingress.class"


class DefaultStorageClass(Plugin):
    name = "DefaultStorageClass"
    operations = frozenset({"CREATE"})
    resources = frozenset({"persistentvolumeclaims"})

    def __init__(self, list_objects: ListObjects) -> None:
        self._list_objects = list_objects
        self._classes = resources.known("storageclasses", "storage.k8s.io")

    async def admit(self, attributes: Attributes) -> Object | None:
        return _classed(
            attributes.obj, CLAIM_CLASS, "storageClassName", self._list_objects(self._classes), STORAGE_MARKS
        )


class DefaultIngressClass(Plugin):
    name = "DefaultIngressClass"
    operations = frozenset({"CREATE"})
    resources = frozenset({"ingresses.networking.k8s.io"})

    def __init__(self, list_objects: ListObjects) -> None:
        self._list_objects = list_objects
        self._classes = resources.known("ingressclasses", "networking.k8s.io")

    async def admit(self, attributes: Attributes) -> Object | None:
        return _classed(
            attributes.obj, INGRESS_CLASS, "ingressClassName", self._list_objects(self._classes), INGRESS_MARKS
        )


def _classed(
    obj: Object | None, annotation: str, field: str, classes: Iterable[Object], marks: tuple[str, ...]
) -> Object | None:
    """The object with the default class, where it names none in the field or the annotation."""
    if obj is None or annotation in objects.annotations_of(obj) or objects.get_path(obj, "spec", field) is not None:
        return obj
    default = default_of(classes, marks)
    return obj if default is None else objects.with_path(obj, ("spec", field), objects.name_of(default))


def default_of(classes: Iterable[Object], marks: tuple[str, ...]) -> Object | None:
    """The class that counts for those who name none."""
    marked = [each for each in classes if any(objects.annotations_of(each).get(mark) == "true" for mark in marks)]
    marked.sort(key=objects.name_of)
    return max(marked, key=lambda each: objects.meta(each).get("creationTimestamp") or "", default=None)
