"""What storage drivers publish: themselves, their nodes, their attachments and the room they have.

Source: kubernetes ``pkg/apis/storage/validation/validation.go``, ``pkg/apis/storage/v1/defaults.go``,
``pkg/registry/storage/{csidriver,csinode,csistoragecapacity,volumeattachment}/strategy.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anynode.api.formats import Quantity
from anynode.api.objects import Object
from anynode.schema import metadata
from anynode.schema.fields import (
    FieldError,
    FieldPath,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)
from anynode.schema.kinds import selection, strategy, volume_claims
from anynode.schema.kinds.internal_form import internal, selector_form
from anynode.schema.kinds.volume_rules import validate_csi_driver
from anynode.schema.rules import KindRules

_SPEC = FieldPath("spec")
_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_DRIVER_DEFAULTS: Mapping[str, object] = {
    "attachRequired": True,
    "podInfoOnMount": False,
    "storageCapacity": False,
    "fsGroupPolicy": "ReadWriteOnceWithFSType",
    "requiresRepublish": False,
    "seLinuxMount": False,
}


def default_driver(driver: Object) -> Object:
    spec = dict(driver.get("spec") or {})
    for field, value in _DRIVER_DEFAULTS.items():
        if spec.get(field) is None:
            spec[field] = value
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]
    return {**driver, "spec": spec}


def _without_gated(driver: Object) -> Object:
    """Scaling of volume limits is off, as it is upstream by default."""
    spec = driver["spec"]
    kept = strategy.without_fields(spec, ("preventPodSchedulingIfMissing",))
    return driver if kept is spec else {**driver, "spec": kept}


def _update_driver(new: Object, old: Object) -> Object:
    return strategy.updated(keep=())(_without_gated(new), old)


def validate_driver(driver: Object) -> list[FieldError]:
    spec = driver.get("spec") or {}
    errors: list[FieldError] = []
    if spec["fsGroupPolicy"] not in _POLICIES:
        errors.append(not_supported(_SPEC.child("fsGroupPolicy"), spec["fsGroupPolicy"], _POLICIES))
    errors += _validate_token_requests(spec.get("tokenRequests") or ())
    modes = ("Persistent", "Ephemeral")
    where = _SPEC.child("volumeLifecycleModes")
    errors.extend(not_supported(where, mode, modes) for mode in spec["volumeLifecycleModes"] if mode not in modes)
    period = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < 10:
        where = _SPEC.child("nodeAllocatableUpdatePeriodSeconds")
        errors.append(invalid(where, period, "must be greater than or equal to 10 seconds"))
    in_secrets = spec.get("serviceAccountTokenInSecrets")
    if in_secrets is not None and not spec.get("tokenRequests"):
        text = "serviceAccountTokenInSecrets is set but no tokenRequests are specified"
        errors.append(invalid(_SPEC.child("serviceAccountTokenInSecrets"), in_secrets, text))
    return errors


def _validate_token_requests(requests: Sequence[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, request in enumerate(requests):
        path, audience = _SPEC.child("tokenRequests").index(at), request.get("audience") or ""
        if audience in seen:
            errors.append(duplicate(path.child("audience"), audience))
            continue
        seen.add(audience)
        seconds = request.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            text = "may not specify a duration less than 10 minutes"
            errors.append(invalid(path.child("expirationSeconds"), seconds, text))
        if seconds is not None and seconds > 1 << 32:
            text = "may not specify a duration larger than 2^32 seconds"
            errors.append(invalid(path.child("expirationSeconds"), seconds, text))
    return errors


def validate_driver_update(new: Object, old: Object) -> list[FieldError]:
    errors = validate_driver(new)
    after, before = new.get("spec") or {}, old.get("spec") or {}
    for field, told in (("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")):
        errors += metadata.validate_immutable(after.get(field), before.get(field), _SPEC.child(told))
    return errors


def _tokens_of(driver: Object) -> Sequence[Object]:
    return (driver.get("spec") or {}).get("tokenRequests") or ()


def _driver_warnings(driver: Object) -> list[str]:
    if not _tokens_of(driver) or driver["spec"].get("serviceAccountTokenInSecrets") is not None:
        return []
    return [
        "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible "
        "logging of tokens in volume attributes"
    ]


DRIVER = KindRules(
    default=default_driver,
    prepare_create=_without_gated,
    prepare_update=_update_driver,
    validate=validate_driver,
    validate_update=validate_driver_update,
    warnings=_driver_warnings,
    update_warnings=lambda new, old: () if _tokens_of(new) == _tokens_of(old) else _driver_warnings(new),
    allow_unconditional_update=False,
)


def _drivers(node: Object) -> Sequence[Object]:
    return (node.get("spec") or {}).get("drivers") or ()


def validate_csi_node(node: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, driver in enumerate(_drivers(node)):
        path, name = _SPEC.child("drivers").index(at), driver.get("name") or ""
        errors += _validate_node_driver(driver, path)
        if name in seen:
            errors.append(duplicate(path.child("name"), name))
        seen.add(name)
        errors += _validate_topology_keys(driver.get("topologyKeys") or (), path)
    return errors


def _validate_node_driver(driver: Object, path: FieldPath) -> list[FieldError]:
    errors = validate_csi_driver(driver.get("name") or "", path.child("name"))
    identity, count = driver.get("nodeID") or "", (driver.get("allocatable") or {}).get("count")
    if not identity:
        errors.append(required(path.child("nodeID")))
    if len(identity.encode()) > 256:
        errors.append(invalid(path.child("nodeID"), identity, "must be 256 characters or less"))
    return errors + metadata.validate_nonnegative(count, path.child("allocatable", "count"))


def _validate_topology_keys(keys: Sequence[str], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, key in enumerate(keys):
        if not key:
            errors.append(required(path))
        if key in keys[:at]:
            errors.append(duplicate(path, key))
        errors += metadata.validate_label_key(key, path)
    return errors


def validate_csi_node_update(new: Object, old: Object) -> list[FieldError]:
    """A driver's entry stays as it was, but for how many volumes it takes."""
    errors, path = validate_csi_node(new), _SPEC.child("drivers")
    for before in _drivers(old):
        for driver in _drivers(new):
            if driver.get("name") == before.get("name"):
                after, was = (strategy.without_fields(each, ("allocatable",)) for each in (driver, before))
                if after != was:
                    errors.append(invalid(path, internal("CSINodeDriver", after), metadata.IMMUTABLE))
    return errors


CSI_NODE = KindRules(
    default=lambda node: node if node.get("spec") else {**node, "spec": {"drivers": None}},
    validate=validate_csi_node,
    validate_update=validate_csi_node_update,
    allow_unconditional_update=False,
)


def validate_storage_capacity(capacity: Object) -> list[FieldError]:
    errors = selection.validate_label_selector(capacity.get("nodeTopology"), FieldPath("nodeTopology"))
    name, room = capacity.get("storageClassName") or "", capacity.get("capacity")
    errors.extend(invalid(FieldPath("storageClassName"), name, text) for text in metadata.subdomain_name(name))
    if room is not None and Quantity.parse(room).nano < 0:
        shown = str(Quantity.parse(room))
        errors.append(invalid(FieldPath("capacity"), shown, "must be greater than or equal to 0"))
    return errors


def validate_storage_capacity_update(new: Object, old: Object) -> list[FieldError]:
    return validate_storage_capacity(new) + [
        invalid(FieldPath(field), shown(new.get(field)), metadata.IMMUTABLE)
        for field, shown in (("nodeTopology", selector_form), ("storageClassName", lambda name: name))
        if not strategy.same_value(new.get(field), old.get(field))
    ]


STORAGE_CAPACITY = KindRules(
    validate=validate_storage_capacity,
    validate_update=validate_storage_capacity_update,
    allow_unconditional_update=False,
)


def default_attachment(attachment: Object) -> Object:
    spec, status = attachment.get("spec") or {}, attachment.get("status") or {}
    source = spec.get("source") or {}
    inline = source.get("inlineVolumeSpec")
    if inline is not None:
        source = {**source, "inlineVolumeSpec": volume_claims.default_volume({"spec": inline})["spec"]}
    return {
        **attachment,
        "spec": {**spec, "source": source},
        "status": {**status, "attached": bool(status.get("attached"))},
    }


def validate_attachment(attachment: Object) -> list[FieldError]:
    spec = attachment.get("spec") or {}
    errors = validate_csi_driver(spec.get("attacher") or "", _SPEC.child("attacher"))
    errors += _validate_attached(spec.get("source") or {}, _SPEC.child("source"))
    node = spec.get("nodeName") or ""
    errors.extend(invalid(_SPEC.child("nodeName"), node, text) for text in metadata.subdomain_name(node))
    errors += validate_attachment_status(attachment, attachment)
    volume = (spec.get("source") or {}).get("persistentVolumeName")
    if volume is not None:
        path = _SPEC.child("source", "persistentVolumeName")
        errors.extend(invalid(path, volume, text) for text in metadata.subdomain_name(volume))
    return errors


def _validate_attached(source: Object, path: FieldPath) -> list[FieldError]:
    inline, name = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if inline is None and name is None:
        return [required(path, text)]
    if inline is not None and name is not None:
        return [forbidden(path, text)]
    if name == "":
        return [required(path.child("persistentVolumeName"), "must specify non empty persistentVolumeName")]
    if inline is not None:
        return volume_claims.validate_volume_spec(inline, path.child("inlineVolumeSpec"), inline=True)
    return []


def validate_attachment_status(new: Object, _old: Object) -> list[FieldError]:
    status, path = new.get("status") or {}, FieldPath("status")
    errors: list[FieldError] = []
    noted = status.get("attachmentMetadata") or {}
    if sum(len(key.encode()) + len(value.encode()) for key, value in noted.items()) > 256 * 1024:
        errors.append(too_long(path.child("attachmentMetadata"), 256 * 1024))
    for field in ("attachError", "detachError"):
        failure = status.get(field) or {}
        if len((failure.get("message") or "").encode()) > 1024:
            errors.append(too_long(path.child(field, "message"), 256 * 1024))
        code = failure.get("errorCode")
        if code is not None and code < 0:
            text = "must be between 0 and 2147483647, inclusive"
            errors.append(invalid(path.child(field, "errorCode"), code, text))
    return errors


def validate_attachment_update(new: Object, old: Object) -> list[FieldError]:
    errors = validate_attachment(new)
    if not strategy.same_value(new.get("spec"), old.get("spec")):
        errors.append(invalid(_SPEC, internal("VolumeAttachmentSpec", new.get("spec")), metadata.IMMUTABLE))
    return errors


ATTACHMENT = KindRules(
    default=default_attachment,
    prepare_create=strategy.created(status={"attached": False}, generation=False),
    prepare_update=strategy.updated(counted=()),
    prepare_status=strategy.status_only(keep_metadata=strategy.STATUS_METADATA),
    validate=validate_attachment,
    validate_update=validate_attachment_update,
    validate_status=validate_attachment_status,
    allow_unconditional_update=False,
)

RULES: Sequence[tuple[str, str, KindRules]] = (
    ("storage.k8s.io", "CSIDriver", DRIVER),
    ("storage.k8s.io", "CSINode", CSI_NODE),
    ("storage.k8s.io", "CSIStorageCapacity", STORAGE_CAPACITY),
    ("storage.k8s.io", "VolumeAttachment", ATTACHMENT),
)
