"""Persistent volume claims and volumes: defaults, strategies, validation.

Source: kubernetes ``pkg/apis/core/v1/defaults.go``, ``pkg/apis/core/validation/validation.go``,
``pkg/registry/core/persistentvolume{,claim}/strategy.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anynode.api import names
from anynode.api.formats import Quantity
from anynode.api.objects import Object, annotations_of, meta
from anynode.schema import metadata
from anynode.schema.fields import FieldError, FieldPath, forbidden, invalid, not_supported, required
from anynode.schema.kinds import pod_defaults, strategy, volume_rules, volume_warnings
from anynode.schema.kinds.amounts import is_native, validate_basic, validate_positive_quantity, validate_quantity
from anynode.schema.kinds.claim_rules import validate_claim_spec
from anynode.schema.kinds.internal_form import difference, internal
from anynode.schema.kinds.selection import validate_node_selector
from anynode.schema.kinds.volume_rules import ACCESS_MODES, ONE_TYPE, SourceRule, needing
from anynode.schema.rules import KindRules

_SPEC, _STATUS = FieldPath("spec"), FieldPath("status")
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"


def default_claim_spec(spec: Object | None) -> Object:
    spec = spec or {}
    return spec if spec.get("volumeMode") is not None else {**spec, "volumeMode": "Filesystem"}


def default_claim(claim: Object) -> Object:
    spec = default_claim_spec(claim.get("spec"))
    if spec.get("resources") is None:
        spec = {**spec, "resources": {}}
    status = claim.get("status") or {}
    if not status.get("phase"):
        status = {**status, "phase": "Pending"}
    return {**claim, "spec": spec, "status": status}


def default_claim_template(claim: Object) -> Object:
    """A claim inside a stateful set: named as the claim it will become."""
    filled = default_claim(claim)
    return {**filled, "kind": "PersistentVolumeClaim", "apiVersion": "v1"}


def _with_data_source(claim: Object) -> Object:
    """``dataSource`` and ``dataSourceRef`` filled from one another, as long as they mean the same."""
    spec = claim.get("spec") or {}
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and reference is None:
        return {**claim, "spec": {**spec, "dataSourceRef": source}}
    if reference is not None and source is None and not reference.get("namespace"):
        return {**claim, "spec": {**spec, "dataSource": reference}}
    return claim


def _create_claim(claim: Object) -> Object:
    spec = claim.get("spec") or {}
    source = spec.get("dataSource")
    if source is not None and spec.get("dataSourceRef") is None and not _known_source(source):
        claim = {**claim, "spec": strategy.without_fields(spec, ("dataSource",))}
    return _with_data_source({**claim, "status": {"phase": "Pending"}})


def _known_source(source: Object) -> bool:
    group, kind = source.get("apiGroup") or "", source.get("kind")
    return (kind == "PersistentVolumeClaim" and not group) or (
        kind == "VolumeSnapshot" and group == "snapshot.storage.k8s.io"
    )


def _update_claim(new: Object, old: Object) -> Object:
    new = strategy.updated(counted=())(new, old)
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    used = before.get("dataSource") is not None or before.get("dataSourceRef") is not None
    source = spec.get("dataSource")
    if not used and spec.get("dataSourceRef") is None and source is not None and not _known_source(source):
        new = {**new, "spec": strategy.without_fields(spec, ("dataSource",))}
    return _with_data_source(new)


def _validate_claim(claim: Object) -> list[FieldError]:
    return validate_claim_spec(claim.get("spec") or {}, _SPEC)


def _size(claim: Object) -> str | None:
    amounts: Mapping[str, str] = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return amounts.get("storage")


def _with_size(spec: Object, size: str | None) -> Object:
    resources = spec.get("resources") or {}
    requests = strategy.with_field(resources.get("requests") or {}, "storage", size)
    return {**spec, "resources": {**resources, "requests": requests}}


def _validate_claim_update(new: Object, old: Object) -> list[FieldError]:
    errors = _validate_claim(new)
    after, before = new.get("spec") or {}, old.get("spec") or {}
    if not before.get("volumeName"):
        before = strategy.with_field(before, "volumeName", after.get("volumeName"))
    if annotations_of(new).get(_BETA_CLASS, "") != annotations_of(old).get(_BETA_CLASS, ""):
        path = FieldPath("metadata").child("annotations").key(_BETA_CLASS)
        errors.append(invalid(path, annotations_of(new).get(_BETA_CLASS, ""), metadata.IMMUTABLE))
    if before.get("storageClassName") is None and _BETA_CLASS not in annotations_of(old):
        after = strategy.with_field(after, "storageClassName", None)
    bound = (new.get("status") or {}).get("phase") == "Bound"
    if bound:
        after = _with_size(after, _size(old))
        after = strategy.with_field(after, "volumeAttributesClassName", before.get("volumeAttributesClassName"))
    if after != before:
        text = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        shown = difference("PersistentVolumeClaimSpec", before, after)
        errors.append(forbidden(_SPEC, f"{text}\n{shown}"))
    errors += _validate_smaller(new, old)
    mode, was = (new.get("spec") or {}).get("volumeMode"), (old.get("spec") or {}).get("volumeMode")
    errors += metadata.validate_immutable(mode, was, FieldPath("volumeMode"))
    return errors + _validate_class_change(new, old)


def _validate_smaller(new: Object, old: Object) -> list[FieldError]:
    size, was = Quantity.parse(_size(new) or "0"), Quantity.parse(_size(old) or "0")
    given = ((old.get("status") or {}).get("capacity") or {}).get("storage") or "0"
    if size.nano >= was.nano or size.nano > Quantity.parse(given).nano:
        return []
    return [forbidden(_SPEC.child("resources", "requests", "storage"), "field can not be less than status.capacity")]


def _validate_class_change(new: Object, old: Object) -> list[FieldError]:
    name = (new.get("spec") or {}).get("volumeAttributesClassName")
    was = (old.get("spec") or {}).get("volumeAttributesClassName")
    if name == was or name or (old.get("status") or {}).get("currentVolumeAttributesClassName") is None:
        return []
    shown = "nil" if name is None else "empty string"
    text = f"update to {shown} is forbidden when status.currentVolumeAttributesClassName is not nil"
    return [forbidden(_SPEC.child("volumeAttributesClassName"), text)]


_RESIZES = (
    "ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible",
    "NodeResizePending",
)  # fmt: skip


def _validate_resource_key(name: str, path: FieldPath) -> list[FieldError]:
    errors = metadata.validate_label_key(name, path)
    if not errors and is_native(name) and name != "storage":
        errors.append(not_supported(path, name, ("storage",)))
    return errors


def _validate_claim_status(new: Object, _old: Object) -> list[FieldError]:
    status = new.get("status") or {}
    errors: list[FieldError] = []
    for name, text in sorted((status.get("capacity") or {}).items()):
        errors += validate_basic(Quantity.parse(text), _STATUS.child("capacity").key(name))
    for name, state in sorted((status.get("allocatedResourceStatuses") or {}).items()):
        path = _STATUS.child("allocatedResourceStatuses")
        errors += _validate_resource_key(name, path)
        if state not in _RESIZES:
            errors.append(not_supported(path, name, _RESIZES))
    for name, text in sorted((status.get("allocatedResources") or {}).items()):
        path, amount = _STATUS.child("allocatedResources"), Quantity.parse(text)
        wrong = _validate_resource_key(name, path)
        if not wrong:
            wrong = validate_basic(amount, path.key(name)) or validate_quantity("storage", amount, path.key(name))
        errors += wrong
    return errors


CLAIM = KindRules(
    default=default_claim,
    prepare_create=_create_claim,
    prepare_update=_update_claim,
    prepare_status=strategy.status_only(),
    validate=_validate_claim,
    validate_update=_validate_claim_update,
    validate_status=_validate_claim_status,
    warnings=volume_warnings.claim_warnings,
    update_warnings=lambda new, _old: volume_warnings.claim_warnings(new),
)


_VOLUME_DEFAULTS = {
    "hostPath": pod_defaults.default_host_path,
    "iscsi": pod_defaults.default_iscsi,
    "rbd": pod_defaults.default_rbd,
    "azureDisk": pod_defaults.default_azure_disk,
    "scaleIO": pod_defaults.default_scale_io,
}


def default_volume(volume: Object) -> Object:
    spec = dict(volume.get("spec") or {})
    if not spec.get("persistentVolumeReclaimPolicy"):
        spec["persistentVolumeReclaimPolicy"] = "Retain"
    if spec.get("volumeMode") is None:
        spec["volumeMode"] = "Filesystem"
    for kind, rule in _VOLUME_DEFAULTS.items():
        if spec.get(kind) is not None:
            spec[kind] = rule(spec[kind])
    status = volume.get("status") or {}
    if not status.get("phase"):
        status = {**status, "phase": "Pending"}
    return {**volume, "spec": spec, "status": status}


def _create_volume(volume: Object) -> Object:
    status = {"phase": "Pending", "lastPhaseTransitionTime": meta(volume).get("creationTimestamp")}
    return {**volume, "status": status}


def _status_of_volume(new: Object, old: Object) -> Object:
    """The time of a change of phase is the registry's to write; without one the old time stays."""
    new = strategy.status_only()(new, old)
    after, before = new.get("status") or {}, old.get("status") or {}
    known = before.get("lastPhaseTransitionTime")
    if after.get("phase") == before.get("phase") and after.get("lastPhaseTransitionTime") is None and known:
        return {**new, "status": {**after, "lastPhaseTransitionTime": known}}
    return new


def _validate_secret(reference: Object | None, path: FieldPath) -> list[FieldError]:
    if reference is None:
        return []
    errors: list[FieldError] = []
    for field, rule in (("name", metadata.subdomain_name), ("namespace", metadata.label_name)):
        value, where = reference.get(field), path.child(field)
        errors += metadata.validate_name(value, where, rule) if value else [required(where)]
    return errors


def _validate_csi(source: Object, path: FieldPath) -> list[FieldError]:
    errors = volume_rules.validate_csi_driver(source.get("driver") or "", path.child("driver"))
    errors += needing("volumeHandle")(source, path)
    for field in (
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ):
        errors += _validate_secret(source.get(field), path.child(field))
    return errors


def _validate_local(source: Object, path: FieldPath) -> list[FieldError]:
    target = source.get("path")
    return volume_rules.validate_no_backsteps(target, path.child("path")) if target else [required(path.child("path"))]


def _validate_gluster(source: Object, path: FieldPath) -> list[FieldError]:
    errors = needing("endpoints", "path")(source, path)
    namespace = source.get("endpointsNamespace")
    if namespace == "":
        text = "if the endpointnamespace is set, it must be a valid namespace name"
        errors.append(invalid(path.child("endpointsNamespace"), namespace, text))
    elif namespace is not None:
        errors += metadata.validate_name(namespace, path.child("endpointsNamespace"), metadata.label_name)
    return errors


# the order in which upstream looks at the sources of a volume
_VOLUME_SOURCES: Mapping[str, tuple[SourceRule, str]] = {
    "hostPath": (volume_rules.validate_host_path, "hostPath"),
    "gcePersistentDisk": (volume_rules.validate_disk("pdName"), "persistentDisk"),
    "awsElasticBlockStore": (volume_rules.validate_disk("volumeID"), "awsElasticBlockStore"),
    "glusterfs": (_validate_gluster, "glusterfs"),
    "flocker": (volume_rules.validate_flocker, "flocker"),
    "nfs": (volume_rules.validate_nfs, "nfs"),
    "rbd": (needing("monitors", "image"), "rbd"),
    "quobyte": (volume_rules.validate_quobyte, "quobyte"),
    "cephfs": (needing("monitors"), "cephfs"),
    "iscsi": (volume_rules.validate_iscsi, "iscsi"),
    "cinder": (needing("volumeID"), "cinder"),
    "fc": (volume_rules.validate_fc, "fc"),
    "flexVolume": (volume_rules.validate_flex, "flexVolume"),
    "azureFile": (needing("secretName", "shareName"), "azureFile"),
    "vsphereVolume": (needing("volumePath"), "vsphereVolume"),
    "photonPersistentDisk": (needing("pdID"), "photonPersistentDisk"),
    "portworxVolume": (needing("volumeID"), "portworxVolume"),
    "azureDisk": (volume_rules.validate_azure_disk, "azureDisk"),
    "scaleIO": (needing("gateway", "system", "volumeName"), "scaleIO"),
    "local": (_validate_local, "local"),
    "storageos": (volume_rules.validate_storage_os, "storageos"),
    "csi": (_validate_csi, "csi"),
}


def _validate_volume_sources(spec: Object, at: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    given = [kind for kind in _VOLUME_SOURCES if spec.get(kind) is not None]
    for kind in given:
        rule, shown = _VOLUME_SOURCES[kind]
        if kind != given[0]:
            errors.append(forbidden(at.child(kind), ONE_TYPE))
            continue
        errors += rule(spec[kind], at.child(shown))
        if kind == "local" and spec.get("nodeAffinity") is None:
            errors.append(required(at.child("nodeAffinity"), "Local volume requires node affinity"))
    return errors if given else [required(at, "must specify a volume type")]


def _validate_volume_capacity(spec: Object, at: FieldPath) -> list[FieldError]:
    capacity, path = spec.get("capacity") or {}, at.child("capacity")
    errors = [] if capacity else [required(path)]
    if set(capacity) != {"storage"}:
        errors.append(not_supported(path, dict(sorted(capacity.items())) or None, ("storage",)))
    for name, text in sorted(capacity.items()):
        amount = Quantity.parse(text)
        errors += validate_basic(amount, path.key(name)) + validate_positive_quantity(amount, path.key(name))
    return errors


def validate_volume(volume: Object) -> list[FieldError]:
    return validate_volume_spec(volume.get("spec") or {}, _SPEC)


_INLINE = "in the context of inline volumes"


def _validate_inline(spec: Object, at: FieldPath) -> list[FieldError]:
    text = f"may not be specified {_INLINE}"
    errors = [forbidden(at.child(field), text) for field in ("claimRef", "capacity") if spec.get(field)]
    if spec.get("csi") is None:
        errors.append(required(at.child("csi"), f"has to be specified {_INLINE}"))
    return errors


def validate_volume_spec(spec: Object, at: FieldPath, *, inline: bool = False) -> list[FieldError]:
    """``inline``: of a volume that an attachment describes itself."""
    modes, where = spec.get("accessModes") or (), at.child("accessModes")
    errors = _validate_inline(spec, at) if inline else []
    errors += [] if modes else [required(where)]
    errors.extend(not_supported(where, mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES)
    if "ReadWriteOncePod" in modes and any(mode in ACCESS_MODES[:3] for mode in modes):
        errors.append(forbidden(where, "may not use ReadWriteOncePod with other access modes"))
    errors += [] if inline else _validate_volume_capacity(spec, at)
    policy, known = spec.get("persistentVolumeReclaimPolicy"), ("Delete", "Recycle", "Retain")
    if inline and policy and policy != "Retain":
        errors.append(forbidden(at.child("persistentVolumeReclaimPolicy"), f"may only be Retain {_INLINE}"))
    elif policy and policy not in known:
        errors.append(not_supported(at.child("persistentVolumeReclaimPolicy"), policy, known))
    affinity = spec.get("nodeAffinity")
    if inline and affinity is not None:
        errors.append(forbidden(at.child("nodeAffinity"), f"may not be specified {_INLINE}"))
    elif affinity is not None:
        path = at.child("nodeAffinity", "required")
        needed = affinity.get("required")
        errors += (
            [required(path, "must specify required node constraints")]
            if needed is None
            else validate_node_selector(needed, path)
        )
    errors += _validate_volume_sources(spec, at)
    target = ((spec.get("hostPath") or {}).get("path") or "").rstrip("/")
    if spec.get("hostPath") is not None and not target and policy == "Recycle" and spec["hostPath"].get("path"):
        text = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(forbidden(at.child("persistentVolumeReclaimPolicy"), text))
    if inline and spec.get("storageClassName"):
        errors.append(forbidden(at.child("storageClassName"), f"may not be specified {_INLINE}"))
    elif spec.get("storageClassName"):
        errors += metadata.validate_name(spec["storageClassName"], at.child("storageClassName"))
    mode = spec.get("volumeMode")
    if inline and mode not in (None, "Filesystem"):
        errors.append(forbidden(at.child("volumeMode"), f"may not specify volumeMode other than Filesystem {_INLINE}"))
    elif mode is not None and mode not in ("Block", "Filesystem"):
        errors.append(not_supported(at.child("volumeMode"), mode, ("Block", "Filesystem")))
    return errors + _validate_attributes_class(spec, at)


def _validate_attributes_class(spec: Object, at: FieldPath) -> list[FieldError]:
    name, path = spec.get("volumeAttributesClassName"), at.child("volumeAttributesClassName")
    if name is None:
        return []
    errors = [invalid(path, name, text) for text in names.dns1123_subdomain(name)] if name else []
    if not name:
        errors.append(required(path, "an empty string is disallowed"))
    if spec.get("csi") is None:
        errors.append(required(at.child("csi"), "has to be specified when using volumeAttributesClassName"))
    return errors


def _sources(spec: Object) -> Object:
    return {kind: spec[kind] for kind in _VOLUME_SOURCES if spec.get(kind) is not None}


def validate_volume_update(new: Object, old: Object) -> list[FieldError]:
    errors = [*validate_volume(new), *validate_volume(new)]  # upstream judges the volume twice
    after, before = _sources(new.get("spec") or {}), _sources(old.get("spec") or {})
    added = (after.get("csi") or {}).get("controllerExpandSecretRef")
    if before.get("csi") and before["csi"].get("controllerExpandSecretRef") is None and added is not None:
        after = {**after, "csi": strategy.without_fields(after["csi"], ("controllerExpandSecretRef",))}
    if after != before:
        shown = difference("PersistentVolumeSource", before, after)
        text = f"spec.persistentvolumesource is immutable after creation\n{shown}"
        errors.append(forbidden(_SPEC.child("persistentvolumesource"), text))
    after, before = new.get("spec") or {}, old.get("spec") or {}
    errors += metadata.validate_immutable(after.get("volumeMode"), before.get("volumeMode"), FieldPath("volumeMode"))
    affinity, was = after.get("nodeAffinity"), before.get("nodeAffinity")
    if was is not None and _with_stable_labels(affinity) != _with_stable_labels(was):
        text = f"{metadata.IMMUTABLE}, except for updating from beta label to GA"
        errors.append(invalid(FieldPath("nodeAffinity"), internal("*VolumeNodeAffinity", affinity), text))
    field = "volumeAttributesClassName"
    if before.get(field) is not None and after.get(field) is None:
        errors.append(forbidden(_SPEC.child(field), "update from non-nil value to nil is forbidden"))
    return errors


_STABLE_LABELS = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
}


def _with_stable_labels(affinity: Object | None) -> Any:
    """A volume's node affinity by the newer names of labels."""
    if not affinity or not affinity.get("required"):
        return affinity
    terms = [
        {
            field: [{**each, "key": _STABLE_LABELS.get(each.get("key") or "", each.get("key"))} for each in items or ()]
            for field, items in term.items()
        }
        for term in affinity["required"].get("nodeSelectorTerms") or ()
    ]
    return {**affinity, "required": {**affinity["required"], "nodeSelectorTerms": terms}}


VOLUME = KindRules(
    default=default_volume,
    prepare_create=_create_volume,
    prepare_update=strategy.updated(counted=()),
    prepare_status=_status_of_volume,
    validate=validate_volume,
    validate_update=validate_volume_update,
    warnings=volume_warnings.volume_warnings,
    update_warnings=lambda new, _old: volume_warnings.volume_warnings(new),
)

RULES: Sequence[tuple[str, str, KindRules]] = (
    ("", "PersistentVolumeClaim", CLAIM),
    ("", "PersistentVolume", VOLUME),
)
