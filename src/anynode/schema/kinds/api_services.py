"""APIServices: who serves a group and version of the API.

Source: kube-aggregator ``pkg/apis/apiregistration/validation``, ``pkg/registry/apiservice/strategy.go``, 1.36.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from anynode.api import names
from anynode.api.objects import Object, meta
from anynode.schema import metadata
from anynode.schema.fields import FieldError, FieldPath, invalid, not_supported, required
from anynode.schema.kinds import strategy
from anynode.schema.rules import KindRules

_SPEC = FieldPath("spec")
_MOST_GROUP_PRIORITY, _MOST_VERSION_PRIORITY = 20000, 1000


def default(service: Object) -> Object:
    spec = service.get("spec") or {}
    backend = spec.get("service")
    if backend is None or backend.get("port") is not None:
        return service
    return {**service, "spec": {**spec, "service": {**backend, "port": 443}}}


def prepare_create(service: Object) -> Object:
    """What this server itself serves is available; of others nothing is known."""
    if (service.get("spec") or {}).get("service") is not None:
        return {**service, "status": {}}
    said = {
        "type": "Available",
        "status": "True",
        "lastTransitionTime": meta(service).get("creationTimestamp"),
        "reason": "Local",
        "message": "Local APIServices are always available",
    }
    return {**service, "status": {"conditions": [said]}}


def validate(service: Object) -> list[FieldError]:
    spec = service.get("spec") or {}
    group, version = spec.get("group") or "", spec.get("version") or ""
    errors: list[FieldError] = []
    wanted, name = f"{version}.{group}", str(meta(service).get("name") or "")
    if name != wanted and not metadata.path_segment_name(name):
        errors.append(invalid(FieldPath("metadata.name"), name, f'must be `spec.version+"."+spec.group`: "{wanted}"'))
    if not group and version != "v1":
        errors.append(required(_SPEC.child("group"), "only v1 may have an empty group and it better be legacy kube"))
    if group:
        errors.extend(invalid(_SPEC.child("group"), group, wrong) for wrong in names.dns1123_subdomain(group))
    errors.extend(invalid(_SPEC.child("version"), version, wrong) for wrong in names.dns1035_label(version))
    for field, most in (("groupPriorityMinimum", _MOST_GROUP_PRIORITY), ("versionPriority", _MOST_VERSION_PRIORITY)):
        value = spec.get(field) or 0
        if not 0 < value <= most:
            errors.append(invalid(_SPEC.child(field), value, f"must be positive and less than {most}"))
    return errors + (_of_local(spec) if spec.get("service") is None else _of_remote(spec))


def _of_local(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    bundle = spec.get("caBundle")
    if bundle:
        size = f"{len(base64.b64decode(bundle))} bytes"
        errors.append(invalid(_SPEC.child("caBundle"), size, "local APIServices may not have a caBundle"))
    if spec.get("insecureSkipTLSVerify"):
        path = _SPEC.child("insecureSkipTLSVerify")
        errors.append(invalid(path, True, "local APIServices may not have insecureSkipTLSVerify"))
    return errors


def _of_remote(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    backend, path = spec["service"], _SPEC.child("service")
    errors.extend(required(path.child(field), "") for field in ("namespace", "name") if not backend.get(field))
    port = backend.get("port") or 0
    if not 0 < port < 65536:
        said = "port is not valid: must be between 1 and 65535, inclusive"
        errors.append(invalid(path.child("port"), port, said))
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        path = _SPEC.child("insecureSkipTLSVerify")
        errors.append(invalid(path, True, "may not be true if caBundle is present"))
    return errors


def validate_update(new: Object, _old: Object) -> list[FieldError]:
    return validate(new)


def validate_status(new: Object, _old: Object) -> Sequence[FieldError]:
    conditions = (new.get("status") or {}).get("conditions") or ()
    return [
        not_supported(FieldPath("status.conditions").index(index).child("status"), each.get("status") or "", _STATUSES)
        for index, each in enumerate(conditions)
        if each.get("status") not in _STATUSES
    ]


_STATUSES = ("True", "False", "Unknown")
API_SERVICE = KindRules(
    default=default,
    prepare_create=prepare_create,
    prepare_update=strategy.updated(counted=()),
    prepare_status=strategy.status_only(keep_metadata=strategy.STATUS_METADATA),
    validate=validate,
    validate_update=validate_update,
    validate_status=validate_status,
    valid_name=metadata.path_segment_name,
    allow_unconditional_update=False,
)
RULES = (("apiregistration.k8s.io", "APIService", API_SERVICE),)
