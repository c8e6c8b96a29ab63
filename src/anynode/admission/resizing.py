"""PersistentVolumeClaimResize and PodResizeValidator: what may grow, and where.

A claim grows when it is bound and its class allows expansion; a pod in place when its node could hold it at all.
Source: kubernetes ``plugin/pkg/admission/storage/persistentvolume/resize`` and ``podresize``, 1.36.
"""

from __future__ import annotations

from anynode.admission.chain import Attributes, Lookup, Plugin
from anynode.admission.default_classes import CLAIM_CLASS
from anynode.api import objects, pod_amounts, resources
from anynode.api.errors import Cause
from anynode.api.formats import Quantity
from anynode.api.objects import Object, ObjectKey
from anynode.api.pod_amounts import Counting

OS_LABEL = "kubernetes.io/os"
_SPEC_AND_OVERHEAD = Counting(actual=True, huge_pages=True)


class PersistentVolumeClaimResize(Plugin):
    name = "PersistentVolumeClaimResize"
    operations = frozenset({"UPDATE"})
    resources = frozenset({"persistentvolumeclaims"})

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._classes = resources.known("storageclasses", "storage.k8s.io")

    async def validate(self, attributes: Attributes) -> None:
        new, old = attributes.obj, attributes.old
        if new is None or old is None or not _size(old) < _size(new):
            return
        if objects.get_path(old, "status", "phase") != "Bound":
            raise attributes.forbidden("Only bound persistent volume claims can be expanded")
        if not self._may_grow(_class_of(new), _class_of(old)):
            raise attributes.forbidden(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
                "support resize"
            )

    def _may_grow(self, new_class: str, old_class: str) -> bool:
        if not new_class or new_class != old_class:
            return False
        found = self._lookup(self._classes, ObjectKey("", new_class))
        return found is not None and bool(found.get("allowVolumeExpansion"))


def _size(claim: Object) -> Quantity:
    return Quantity.parse(objects.get_path(claim, "spec", "resources", "requests", "storage", default="0"))


def _class_of(claim: Object) -> str:
    annotated = objects.annotations_of(claim).get(CLAIM_CLASS)
    found: str = annotated if annotated is not None else objects.get_path(claim, "spec", "storageClassName", default="")
    return found


class PodResizeValidator(Plugin):
    name = "PodResizeValidator"
    operations = frozenset({"UPDATE"})
    resources = frozenset({"pods/resize"})

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._nodes = resources.known("nodes")

    async def validate(self, attributes: Attributes) -> None:
        pod, old = attributes.obj, attributes.old
        name = objects.get_path(pod or {}, "spec", "nodeName")
        if pod is None or old is None or not name or _generation(pod) == _generation(old):
            return
        node = self._lookup(self._nodes, ObjectKey("", name))
        if node is None:
            raise attributes.forbidden(f'node "{name}" not found')
        system = objects.labels_of(node).get(OS_LABEL)
        if system not in (None, "linux"):
            why = f'pod resize is only supported on linux nodes, node "{name}" is "{system}"'
            raise attributes.forbidden(why, [Cause(reason="UnsupportedPlatform", message="")])
        short = _short_of(pod, node)
        if short:
            why = f"node didn't have enough allocatable resources: {short}"
            raise attributes.forbidden(why, [Cause(reason="NodeCapacity", message="")])


def _generation(obj: Object) -> int:
    return int(objects.meta(obj).get("generation") or 0)


def _short_of(pod: Object, node: Object) -> str:
    """What the pod asks for beyond what its node could ever give."""
    plain = {**pod, "status": {}}
    asked = pod_amounts.pod_amounts(plain, "requests", _SPEC_AND_OVERHEAD)
    there = pod_amounts.parsed(objects.get_path(node, "status", "allocatable"))
    zero, said = Quantity(0), []
    cpu, most_cpu = asked.get("cpu", zero), there.get("cpu", zero)
    if most_cpu < cpu:
        said.append(f"cpu, requested: {cpu.milli_value()}, allocatable: {most_cpu.milli_value()}")
    memory, most_memory = asked.get("memory", zero), there.get("memory", zero)
    if most_memory < memory:
        said.append(f"memory, requested: {memory.value()}, allocatable: {most_memory.value()}")
    return "; ".join(said)


class NodeDeclaredFeatureValidator(Plugin):
    """A bound pod is changed only in ways its node says it can follow."""

    name = "NodeDeclaredFeatureValidator"
    operations = frozenset({"UPDATE"})
    resources = frozenset({"pods", "pods/resize"})

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._nodes = resources.known("nodes")

    async def validate(self, attributes: Attributes) -> None:
        pod, old = attributes.obj, attributes.old
        name = objects.get_path(pod or {}, "spec", "nodeName")
        if pod is None or old is None or not name or _generation(pod) == _generation(old):
            return
        needed = _needed_features(pod.get("spec") or {}, old.get("spec") or {})
        if not needed:
            return
        node = self._lookup(self._nodes, ObjectKey("", name))
        if node is None:
            raise attributes.forbidden(f'node "{name}" not found')
        declared = objects.get_path(node, "status", "declaredFeatures", default=())
        missing = [each for each in needed if each not in declared]
        if missing:
            why = f"pod update requires features {', '.join(missing)} which are not available on node"
            raise attributes.forbidden(f'{why} "{name}"')


def _needed_features(new: Object, old: Object) -> list[str]:
    needed = []
    if new.get("resources") != old.get("resources"):
        needed.append("InPlacePodLevelResourcesVerticalScaling")
    after = {each.get("name"): each.get("resources") or {} for each in new.get("initContainers") or ()}
    for container in old.get("initContainers") or ():
        changed = (container.get("resources") or {}) != after.get(container.get("name"), {})
        if changed and container.get("restartPolicy") != "Always":
            return [*needed, "InPlacePodVerticalScalingInitContainers"]
    return needed
