"""What holds for ``metadata`` of every kind, on create and on update.

Objects come in whole; complaints come out in upstream's order and words. Name generation has already taken place.
Source: apimachinery ``pkg/api/validation/objectmeta.go``, ``pkg/apis/meta/v1/validation/validation.go``, 1.36.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anynode.api import names
from anynode.api.objects import Object, meta
from anynode.api.remembering import remembered
from anynode.schema.fields import FieldError, FieldPath, forbidden, invalid, required, too_long

IMMUTABLE = "field is immutable"
NEGATIVE = "must be greater than or equal to 0"
_MOST_ANNOTATION_BYTES = 256 * 1024
_ORPHAN, _FOREGROUND = "orphan", "foregroundDeletion"
_METADATA = FieldPath("metadata")

NameRule = Callable[[str], Sequence[str]]


@remembered(8192)
def _subdomain(text: str) -> tuple[str, ...]:
    return tuple(names.dns1123_subdomain(text))


@remembered(8192)
def _label(text: str) -> tuple[str, ...]:
    return tuple(names.dns1123_label(text))


@remembered(8192)
def _key(text: str) -> tuple[str, ...]:
    return tuple(names.label_key(text))


@remembered(8192)
def _value(text: str) -> tuple[str, ...]:
    return tuple(names.label_value(text))


def subdomain_name(name: str) -> Sequence[str]:
    """The rule most kinds have for their name: a DNS-1123 subdomain."""
    return _subdomain(name)


def label_name(name: str) -> Sequence[str]:
    """The rule of namespaces, services and limit by DNS labels: a DNS-1123 label."""
    return _label(name)


def path_segment_name(name: str) -> Sequence[str]:
    """The rule of rbac and custom names: anything that fits into one step of a URL path."""
    return names.path_segment_name(name)


def any_name(_: str) -> Sequence[str]:
    """The rule of kinds that take every name, checked elsewhere."""
    return ()


def _masked(prefix: str) -> str:
    """``prefix`` as it is judged: its trailing dash stands before generated text."""
    return f"{prefix[:-2]}a" if len(prefix) > 1 and prefix.endswith("-") else prefix


MOST_COMPLAINTS = 1_000
"""Enough is said of one map of labels or annotations."""


def validate_name(name: str, path: FieldPath, rule: NameRule | None = None) -> list[FieldError]:
    return [invalid(path, name, text) for text in (rule or subdomain_name)(name)]


def validate_labels(labels: Mapping[str, str] | None, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for key, value in sorted((labels or {}).items()):
        errors.extend(invalid(path, key, text) for text in _key(key))
        errors.extend(invalid(path, value, text) for text in _value(value))
        if len(errors) >= MOST_COMPLAINTS:
            break
    return errors


def validate_label_key(key: str, path: FieldPath) -> list[FieldError]:
    """Complaints about a qualified name such as a label key, a taint's key or a condition type."""
    return [invalid(path, key, text) for text in _key(key)]


def validate_annotations(annotations: Mapping[str, str] | None, path: FieldPath) -> list[FieldError]:
    if not annotations:
        return []
    errors: list[FieldError] = []
    total = 0
    for key, value in sorted(annotations.items()):
        if len(errors) < MOST_COMPLAINTS:
            errors.extend(invalid(path, key, text) for text in _key(key.lower()))
        total += len(key) + (len(value) if value.isascii() else len(value.encode()))
    if total > _MOST_ANNOTATION_BYTES:
        errors.append(too_long(path, _MOST_ANNOTATION_BYTES))
    return errors


def _owner_shown(reference: Object) -> Object:
    order = ("apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion")
    shown = {key: reference.get(key) for key in order}
    for key in order[:4]:
        shown[key] = shown[key] or ""
    return {key: value for key, value in shown.items() if value is not None}


def validate_owner_references(references: Sequence[Object] | None, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    controller = ""
    for reference in references or ():
        api_version, kind = reference.get("apiVersion") or "", reference.get("kind") or ""
        if not api_version or api_version.count("/") > 1 or api_version.endswith("/"):
            errors.append(invalid(path.child("apiVersion"), api_version, "version must not be empty"))
        missing = (field for field in ("kind", "name", "uid") if not reference.get(field))
        errors.extend(invalid(path.child(field), "", "must not be empty") for field in missing)
        if api_version == "v1" and kind == "Event":
            errors.append(invalid(path, _owner_shown(reference), "/v1, Kind=Event is disallowed from being an owner"))
        if reference.get("controller"):
            shown = f"{kind}/{reference.get('name') or ''}"
            if controller:
                text = (
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{controller} and {shown}"
                )
                errors.append(invalid(path, [_owner_shown(each) for each in references or ()], text))
            else:
                controller = shown
    return errors


def validate_finalizers(finalizers: Sequence[str] | None, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for finalizer in finalizers or ():
        errors.extend(invalid(path, finalizer, text) for text in _key(finalizer))
    if finalizers and _ORPHAN in finalizers and _FOREGROUND in finalizers:
        text = f"finalizer {_ORPHAN} and {_FOREGROUND} cannot be both set"
        errors.append(invalid(path, list(finalizers), text))
    return errors


def validate_create(
    obj: Object, *, namespaced: bool, valid_name: NameRule | None = None, path: FieldPath = _METADATA
) -> list[FieldError]:
    """Complaints about the metadata of a new object. ``valid_name`` None means a DNS-1123 subdomain."""
    metadata = meta(obj)
    rule = valid_name or subdomain_name
    errors: list[FieldError] = []
    prefix, name = metadata.get("generateName"), metadata.get("name")
    if prefix:
        errors.extend(invalid(path.child("generateName"), prefix, text) for text in rule(_masked(prefix)))
    if not name:
        errors.append(required(path.child("name"), "name or generateName is required"))
    else:
        errors.extend(invalid(path.child("name"), name, text) for text in rule(name))
    errors.extend(_validate_namespace(metadata.get("namespace"), namespaced, path))
    if (metadata.get("generation") or 0) < 0:
        errors.append(invalid(path.child("generation"), metadata["generation"], NEGATIVE))
    return errors + _validate_common(metadata, path, finalizers=True)


def _validate_namespace(namespace: str | None, namespaced: bool, path: FieldPath) -> list[FieldError]:
    if not namespaced:
        return [forbidden(path.child("namespace"), "not allowed on this type")] if namespace else []
    if not namespace:
        return [required(path.child("namespace"))]
    return [invalid(path.child("namespace"), namespace, text) for text in _label(namespace)]


def _validate_common(metadata: Object, path: FieldPath, *, finalizers: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if metadata.get("labels"):
        errors += validate_labels(metadata["labels"], path.child("labels"))
    if metadata.get("annotations"):
        errors += validate_annotations(metadata["annotations"], path.child("annotations"))
    if metadata.get("ownerReferences"):
        errors += validate_owner_references(metadata["ownerReferences"], path.child("ownerReferences"))
    if finalizers and metadata.get("finalizers"):
        errors += validate_finalizers(metadata["finalizers"], path.child("finalizers"))
    if metadata.get("managedFields"):
        errors += validate_managed_fields(metadata["managedFields"], path.child("managedFields"))
    return errors


def validate_update(new: Object, old: Object, *, path: FieldPath = _METADATA) -> list[FieldError]:
    """Complaints about the metadata of ``new`` as a change of ``old``."""
    after, before = meta(new), meta(old)
    errors: list[FieldError] = []
    if before.get("deletionTimestamp"):
        errors += _no_new_finalizers(after.get("finalizers"), before.get("finalizers"), path.child("finalizers"))
    if not after.get("resourceVersion"):
        errors.append(invalid(path.child("resourceVersion"), "", "must be specified for an update"))
    if (after.get("generation") or 0) < (before.get("generation") or 0):
        errors.append(invalid(path.child("generation"), after.get("generation") or 0, "must not be decremented"))
    for field in ("name", "namespace", "uid"):
        if (after.get(field) or "") != (before.get(field) or ""):
            errors.append(invalid(path.child(field), after.get(field) or "", IMMUTABLE))
    for field in ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if after.get(field) != before.get(field):
            errors.append(invalid(path.child(field), after.get(field), IMMUTABLE))
    return errors + _validate_common(after, path, finalizers=False)


def _no_new_finalizers(new: Sequence[str] | None, old: Sequence[str] | None, path: FieldPath) -> list[FieldError]:
    extra = sorted(set(new or ()) - set(old or ()))
    if not extra:
        return []
    listed = ", ".join(json.dumps(each) for each in extra)
    text = f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{listed}}}"
    return [forbidden(path, text)]


def validate_managed_fields(entries: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for position, entry in enumerate(entries):
        if entry.get("operation") not in ("Apply", "Update"):
            text = "must be `Apply` or `Update`"
            errors.append(invalid(path.index(position).child("operation"), entry.get("operation") or "", text))
        if entry.get("fieldsType") not in ("FieldsV1", None, ""):
            text = "must be `FieldsV1`"
            errors.append(invalid(path.index(position).child("fieldsType"), entry["fieldsType"], text))
        manager: str = entry.get("manager") or ""
        errors.extend(_validate_manager(manager, path.index(position).child("manager")))
        if len(entry.get("subresource") or "") > 256:
            errors.append(too_long(path.index(position).child("subresource"), 256))
    return errors


def _validate_manager(manager: str, path: FieldPath) -> list[FieldError]:
    if len(manager.encode()) > 128:
        return [too_long(path, 128)]
    for position, char in enumerate(manager):
        if not char.isprintable():
            return [invalid(path, manager, f"invalid character U+{ord(char):04X} (at position {position})")]
    return []


def validate_immutable(new: Any, old: Any, path: FieldPath) -> list[FieldError]:
    """A complaint when the two differ; missing, null and empty are alike."""
    return [] if new == old or (not new and not old) else [invalid(path, new, IMMUTABLE)]


def validate_nonnegative(value: int | None, path: FieldPath) -> list[FieldError]:
    return [invalid(path, value, NEGATIVE)] if value is not None and value < 0 else []
