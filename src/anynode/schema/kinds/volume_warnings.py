"""What is allowed in claims, volumes and storage classes and yet worth a word.

Source: kubernetes ``pkg/api/{persistentvolume,persistentvolumeclaim,storage}/util.go``, 1.36.
"""

from __future__ import annotations

from anynode.api.formats import Quantity
from anynode.api.objects import Object, annotations_of, get_path
from anynode.schema.fields import FieldPath
from anynode.schema.kinds import pod_warnings

_CLASS = "volume.beta.kubernetes.io/storage-class"
_OPTIONS = "volume.beta.kubernetes.io/mount-options"
_OLD_CLASS = 'deprecated since v1.8; use "storageClassName" attribute instead'
_OLD_OPTIONS = 'deprecated since v1.31; use "mountOptions" attribute instead'
_RECYCLE = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning."
_OLD_SOURCES = (
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
)
"""(field, as the warning names it, what it says)."""


def claim_warnings(claim: Object) -> list[str]:
    found = []
    if _CLASS in annotations_of(claim):
        found.append(f"metadata.annotations[{_CLASS}]: {_OLD_CLASS}")
    for side in ("requests", "limits"):
        asked = get_path(claim, "spec", "resources", side, "storage")
        if asked is not None and Quantity.parse(asked).milli_value() % 1000:
            amount = Quantity.parse(asked)
            where = f"spec.resources.{side}[storage]"
            found.append(f'{where}: fractional byte value "{amount}" is invalid, must be an integer')
    return found


def volume_warnings(volume: Object) -> list[str]:
    annotations, spec = annotations_of(volume), volume.get("spec") or {}
    found = [
        f"metadata.annotations[{key}]: {said}"
        for key, said in ((_CLASS, _OLD_CLASS), (_OPTIONS, _OLD_OPTIONS))
        if key in annotations
    ]
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        found.append(f"spec.persistentVolumeReclaimPolicy: {_RECYCLE}")
    path = FieldPath("spec").child("nodeAffinity", "required", "nodeSelectorTerms")
    for index, term in enumerate(get_path(spec, "nodeAffinity", "required", "nodeSelectorTerms", default=())):
        found += pod_warnings.term_warnings(term, path.index(index), check_values=False)
    return found + [f"spec.{name}: {said}" for field, name, said in _OLD_SOURCES if spec.get(field) is not None]


def class_warnings(storage_class: Object) -> list[str]:
    path = FieldPath("allowedTopologies")
    return [
        f"{path.index(index).child('matchLabelExpressions').index(place).child('key')}: {said}"
        for index, topology in enumerate(storage_class.get("allowedTopologies") or ())
        for place, expression in enumerate(topology.get("matchLabelExpressions") or ())
        if (said := pod_warnings.DEPRECATED_LABELS.get(expression.get("key") or ""))
    ]
