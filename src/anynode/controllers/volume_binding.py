"""PersistentVolumeClaims and the PersistentVolumes there are, brought together. Pure.

In: a claim, its class and all volumes. Out: the volume it should have, and what each says once they are bound. The
smallest volume that is large enough and fits in class, modes and labels is taken; one made for the claim goes first.
Source: kubernetes ``pkg/controller/volume/persistentvolume/{pv_controller,index}.go``, component-helpers
``storage/volume/pv_helpers.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable

from anynode.api.formats import Quantity
from anynode.api.objects import (
    Object,
    annotations_of,
    get_path,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    resource_version_of,
    uid_of,
    with_meta,
)
from anynode.api.selectors import of_label_selector

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONERS = ("volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner")
SELECTED_NODE = "volume.kubernetes.io/selected-node"
OLD_CLASS = "volume.beta.kubernetes.io/storage-class"


def class_of(obj: Object) -> str:
    """The storage class of a claim or a volume; empty for none."""
    annotated = annotations_of(obj).get(OLD_CLASS)
    found: str = annotated if annotated is not None else get_path(obj, "spec", "storageClassName", default="")
    return found


def is_reserved_for(volume: Object, claim: Object) -> bool:
    """Whether the volume names this claim."""
    reference = get_path(volume, "spec", "claimRef") or {}
    named = (reference.get("namespace"), reference.get("name")) == (namespace_of(claim), name_of(claim))
    return named and reference.get("uid") in (None, "", uid_of(claim))


def waits_for_pod(claim: Object, storage_class: Object | None) -> bool:
    """Whether the claim is to be bound only once a pod that uses it has a node."""
    late = storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
    return late and SELECTED_NODE not in annotations_of(claim)


def best_volume(claim: Object, volumes: Iterable[Object], *, wait: bool) -> Object | None:
    """The volume for the claim; ``wait``: one made for it only. Raises ``SelectorError``."""
    spec = claim.get("spec") or {}
    wanted = _size(get_path(spec, "resources", "requests", "storage"))
    selector = of_label_selector(spec["selector"]) if spec.get("selector") is not None else None
    fitting: list[tuple[int, str, Object]] = []
    for volume in volumes:
        capacity = _size(get_path(volume, "spec", "capacity", "storage"))
        if is_deleting(volume) or capacity < wanted or not _modes_fit(claim, volume):
            continue
        if is_reserved_for(volume, claim):
            return volume
        if wait or get_path(volume, "spec", "claimRef") is not None:
            continue
        if get_path(volume, "status", "phase") != "Available" or class_of(volume) != class_of(claim):
            continue
        if selector is not None and not selector.matches(labels_of(volume)):
            continue
        fitting.append((capacity, name_of(volume), volume))
    return min(fitting, key=lambda each: each[:2])[2] if fitting else None


def _size(text: str | None) -> int:
    return 0 if text is None else Quantity.parse(text).nano


def _modes_fit(claim: Object, volume: Object) -> bool:
    spec, other = claim.get("spec") or {}, volume.get("spec") or {}
    if (spec.get("volumeMode") or "Filesystem") != (other.get("volumeMode") or "Filesystem"):
        return False
    if (spec.get("volumeAttributesClassName") or "") != (other.get("volumeAttributesClassName") or ""):
        return False
    return set(spec.get("accessModes") or ()) <= set(other.get("accessModes") or ())


def bound_volume(volume: Object, claim: Object) -> Object:
    """The volume's spec and metadata once it is the claim's; the volume itself when it is already."""
    reference = get_path(volume, "spec", "claimRef") or {}
    if reference.get("uid") == uid_of(claim):
        return volume
    new = {
        "kind": "PersistentVolumeClaim",
        "namespace": namespace_of(claim),
        "name": name_of(claim),
        "uid": uid_of(claim),
        "apiVersion": "v1",
        "resourceVersion": resource_version_of(claim),
    }
    changed = {**volume, "spec": {**volume["spec"], "claimRef": new}}
    if reference:
        return changed
    return with_meta(changed, annotations={**annotations_of(volume), BOUND_BY_CONTROLLER: "yes"})


def bound_claim(claim: Object, volume: Object) -> Object:
    """The claim's spec and metadata once it has the volume; the claim itself when that is so already."""
    annotations = annotations_of(claim)
    named = get_path(claim, "spec", "volumeName") == name_of(volume)
    if named and BIND_COMPLETED in annotations:
        return claim
    added = {BIND_COMPLETED: "yes", **({} if named else {BOUND_BY_CONTROLLER: "yes"})}
    changed = {**claim, "spec": {**claim["spec"], "volumeName": name_of(volume)}}
    return with_meta(changed, annotations={**annotations, **added})


def bound_status(claim: Object, volume: Object) -> Object:
    """The claim's status once it has the volume. Its capacity is taken over when it is bound, later it may grow."""
    status = claim.get("status") or {}
    capacity = get_path(volume, "spec", "capacity", default={})
    if status.get("phase") == "Bound" and status.get("capacity"):
        capacity = status["capacity"]
    attributes = get_path(volume, "spec", "volumeAttributesClassName")
    found = {
        **status,
        "phase": "Bound",
        "accessModes": get_path(volume, "spec", "accessModes", default=[]),
        "capacity": capacity,
    }
    if attributes and not status.get("currentVolumeAttributesClassName"):
        found["currentVolumeAttributesClassName"] = attributes
    return found


def freed_volume(volume: Object) -> Object:
    """The volume when the claim it was bound to has another: what the controller set is taken back."""
    annotations = dict(annotations_of(volume))
    if annotations.pop(BOUND_BY_CONTROLLER, None) is not None:
        spec = {field: value for field, value in volume["spec"].items() if field != "claimRef"}
    else:
        reference = volume["spec"]["claimRef"]
        kept = {field: value for field, value in reference.items() if field not in ("uid", "resourceVersion")}
        spec = {**volume["spec"], "claimRef": kept}
    return with_meta({**volume, "spec": spec}, annotations=annotations or None)
