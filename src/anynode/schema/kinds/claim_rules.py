"""What a valid persistent volume claim asks for; also inside stateful sets and ephemeral volumes.

Source: kubernetes ``pkg/apis/core/validation/validation.go`` (ValidatePersistentVolumeClaimSpec), 1.36.
"""

from __future__ import annotations

from anynode.api import names
from anynode.api.formats import Quantity
from anynode.api.objects import Object
from anynode.schema.fields import FieldError, FieldPath, forbidden, invalid, not_supported, required
from anynode.schema.kinds.amounts import validate_positive_quantity, validate_quantity
from anynode.schema.kinds.selection import validate_label_selector
from anynode.schema.kinds.volume_rules import ACCESS_MODES, validate_template_metadata
from anynode.schema.metadata import label_name, validate_name


def validate_claim_spec(spec: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    modes = spec.get("accessModes") or ()
    if not modes:
        errors.append(required(path.child("accessModes"), "at least 1 access mode is required"))
    errors += validate_label_selector(spec.get("selector"), path.child("selector"))
    where = path.child("accessModes")
    errors.extend(not_supported(where, mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES)
    if "ReadWriteOncePod" in modes and any(mode in ACCESS_MODES[:3] for mode in modes):
        errors.append(forbidden(where, "may not use ReadWriteOncePod with other access modes"))
    errors += _validate_storage(spec, path.child("resources").key("storage"))
    if spec.get("storageClassName"):
        errors += validate_name(spec["storageClassName"], path.child("storageClassName"))
    mode = spec.get("volumeMode")
    if mode is not None and mode not in ("Block", "Filesystem"):
        errors.append(not_supported(path.child("volumeMode"), mode, ("Block", "Filesystem")))
    errors += _validate_sources(spec, path)
    if spec.get("volumeAttributesClassName"):
        errors += validate_name(spec["volumeAttributesClassName"], path.child("volumeAttributesClassName"))
    return errors


def _validate_storage(spec: Object, path: FieldPath) -> list[FieldError]:
    text = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if text is None:
        return [required(path)]
    amount = Quantity.parse(text)
    return validate_positive_quantity(amount, path) or validate_quantity("storage", amount, path)


def _validate_source(source: Object, path: FieldPath) -> list[FieldError]:
    errors = [required(path.child(field)) for field in ("name", "kind") if not source.get(field)]
    group, kind = source.get("apiGroup") or "", source.get("kind") or ""
    if not group and kind != "PersistentVolumeClaim":
        text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        errors.append(invalid(path, kind, text))
    if group:
        errors.extend(invalid(path.child("apiGroup"), group, text) for text in names.dns1123_subdomain(group))
    return errors


def _validate_sources(spec: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None:
        errors += _validate_source(source, path.child("dataSource"))
    if reference is not None:
        errors += _validate_source(reference, path.child("dataSourceRef"))
        if reference.get("namespace"):
            errors += validate_name(reference["namespace"], path.child("dataSourceRef", "namespace"), label_name)
    if source is None or reference is None:
        return errors
    shown: Object = {}  # upstream passes a path, which has no exported fields
    if reference.get("namespace"):
        errors.append(invalid(path, shown, "may not be specified when dataSourceRef.namespace is specified"))
    elif any((source.get(field) or "") != (reference.get(field) or "") for field in ("apiGroup", "kind", "name")):
        errors.append(invalid(path, shown, "must match dataSourceRef"))
    return errors


def validate_ephemeral(source: Object, path: FieldPath) -> list[FieldError]:
    """Complaints about the claim a pod brings along for an ephemeral volume."""
    template = source.get("volumeClaimTemplate")
    if template is None:
        return [required(path.child("volumeClaimTemplate"))]
    where = path.child("volumeClaimTemplate")
    errors = validate_template_metadata(template.get("metadata") or {}, where.child("metadata"))
    return errors + validate_claim_spec(template.get("spec") or {}, where.child("spec"))
