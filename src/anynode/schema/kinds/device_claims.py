"""Devices: classes and claims of them, and what a claim got.

Source: kubernetes ``pkg/apis/resource/validation/validation.go``,
``pkg/apis/resource/v1/defaults.go``, ``pkg/registry/resource/*/strategy.go``, 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from anynode.api import names
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
    too_many,
)
from anynode.schema.kinds import strategy
from anynode.schema.kinds.addresses import validate_interface_address
from anynode.schema.kinds.conditions import validate_conditions
from anynode.schema.kinds.device_selectors import validate_expression
from anynode.schema.kinds.internal_form import internal
from anynode.schema.kinds.selection import validate_node_selector
from anynode.schema.kinds.volume_rules import validate_csi_driver, validate_template_metadata
from anynode.schema.rules import KindRules

_SPEC = FieldPath("spec")
_ONE_REQUEST = "exactly one of `exactly` or `firstAvailable` is required"
_NO_REQUEST = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ANY_UUID = re.compile(r"(urn:uuid:|\{)?[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}\}?")
EFFECTS = ("NoExecute", "NoSchedule", "None")


def default_devices(devices: Object) -> Object:
    """Requests ask for one device unless they say otherwise."""
    requests = devices.get("requests")
    if not requests:
        return devices
    return {**devices, "requests": [_default_request(each) for each in requests]}


def _default_request(request: Object) -> Object:
    filled = dict(request)
    if filled.get("exactly") is not None:
        filled["exactly"] = _default_amount(filled["exactly"])
    if filled.get("firstAvailable"):
        filled["firstAvailable"] = [_default_amount(each) for each in filled["firstAvailable"]]
    return filled


def _default_amount(request: Object) -> Object:
    mode = request.get("allocationMode") or "ExactCount"
    if mode == "ExactCount" and not request.get("count"):
        return {**request, "allocationMode": mode, "count": 1}
    return {**request, "allocationMode": mode}


def default_claim(claim: Object) -> Object:
    spec = claim.get("spec") or {}
    filled = {**spec, "devices": default_devices(spec.get("devices") or {})}
    return {**claim, "spec": filled, "status": claim.get("status") or {}}


def default_claim_template(template: Object) -> Object:
    spec = template.get("spec") or {}
    inner = spec.get("spec") or {}
    inner = {**inner, "devices": default_devices(inner.get("devices") or {})}
    return {**template, "spec": {**spec, "metadata": spec.get("metadata") or {}, "spec": inner}}


def _names_of(devices: Object) -> set[str]:
    """Every name a constraint may use: requests, and alternatives as ``request/alternative``."""
    found: set[str] = set()
    for request in devices.get("requests") or ():
        name = request.get("name") or ""
        found.add(name)
        found |= {f"{name}/{each.get('name') or ''}" for each in request.get("firstAvailable") or ()}
    return found


def validate_list(
    items: Sequence[Any], most: int, judge: Callable[[Any, FieldPath], list[FieldError]], path: FieldPath
) -> list[FieldError]:
    if len(items) > most:
        return [too_many(path, len(items), most)]
    return [error for at, item in enumerate(items) for error in judge(item, path.index(at))]


def validate_unique(keys: Sequence[str], path: FieldPath) -> list[FieldError]:
    return [duplicate(path.index(at), key) for at, key in enumerate(keys) if key in keys[:at]]


def validate_named(
    items: Sequence[Object], most: int, judge: Callable[[Object, FieldPath], list[FieldError]], path: FieldPath
) -> list[FieldError]:
    """As ``_validate_list``, the names being unique."""
    errors = validate_list(items, most, judge, path)
    if len(items) > most:
        return errors
    return errors + validate_unique([each.get("name") or "" for each in items], path)


def validate_devices(devices: Object, path: FieldPath) -> list[FieldError]:
    known = _names_of(devices)
    errors = validate_named(devices.get("requests") or (), 32, _validate_request, path.child("requests"))
    errors += validate_list(
        devices.get("constraints") or (),
        32,
        lambda each, where: _validate_constraint(each, known, where),
        path.child("constraints"),
    )
    return errors + validate_list(
        devices.get("config") or (),
        32,
        lambda each, where: (
            _validate_references(each.get("requests") or (), known, where.child("requests"))
            + _validate_config(each, where)
        ),
        path.child("config"),
    )


def validate_label(name: str, path: FieldPath) -> list[FieldError]:
    return metadata.validate_name(name, path, metadata.label_name)


def _validate_request(request: Object, path: FieldPath) -> list[FieldError]:
    errors = validate_label(request.get("name") or "", path.child("name"))
    exactly, first = request.get("exactly"), request.get("firstAvailable") or ()
    if exactly is None and not first:
        return [*errors, required(path, _ONE_REQUEST)]
    if exactly is not None and first:
        return [*errors, invalid(path, None, f"{_ONE_REQUEST}, but multiple fields are set")]
    if exactly is not None:
        return errors + _validate_amount(exactly, path.child("exactly"))

    def judge(alternative: Object, where: FieldPath) -> list[FieldError]:
        wrong = validate_label(alternative.get("name") or "", where.child("name"))
        return wrong + _validate_amount(alternative, where)

    return errors + validate_named(first, 8, judge, path.child("firstAvailable"))


def _validate_amount(request: Object, path: FieldPath) -> list[FieldError]:
    name, where = request.get("deviceClassName") or "", path.child("deviceClassName")
    errors = metadata.validate_name(name, where) if name else [required(where)]
    errors += validate_list(request.get("selectors") or (), 32, _validate_selector, path.child("selectors"))
    mode, count = request.get("allocationMode"), request.get("count") or 0
    if mode not in ("All", "ExactCount"):
        errors.append(not_supported(path.child("allocationMode"), mode, ("All", "ExactCount")))
    elif mode == "All" and count:
        text = "must not be specified when allocationMode is 'All'"
        errors.append(invalid(path.child("count"), count, text))
    elif mode == "ExactCount" and count <= 0:
        errors.append(invalid(path.child("count"), count, "must be greater than zero"))
    for at, toleration in enumerate(request.get("tolerations") or ()):
        errors += _validate_toleration(toleration, path.child("tolerations").index(at))
    return errors


def _validate_selector(selector: Object, path: FieldPath) -> list[FieldError]:
    if selector.get("cel") is None:
        return [required(path.child("cel"))]
    return validate_expression(selector["cel"].get("expression") or "", path.child("cel", "expression"))


def _validate_toleration(toleration: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    operator, value, effect = (toleration.get(field) or "" for field in ("operator", "value", "effect"))
    if toleration.get("key"):
        errors += metadata.validate_label_key(toleration["key"], path.child("key"))
    if operator == "Exists":
        if value:
            errors.append(invalid(path.child("value"), value, "must be empty for operator `Exists`"))
    elif operator == "Equal":
        errors.extend(invalid(path.child("value"), value, text) for text in names.label_value(value))
    elif not operator:
        errors.append(required(path.child("operator")))
    else:
        errors.append(not_supported(path.child("operator"), operator, ("Equal", "Exists")))
    if effect and effect not in EFFECTS:
        errors.append(not_supported(path.child("effect"), effect, EFFECTS))
    return errors


def _validate_references(given: Sequence[str], known: set[str], path: FieldPath) -> list[FieldError]:
    errors = validate_list(given, 32, lambda each, where: _validate_reference(each, known, where), path)
    return errors if len(given) > 32 else errors + validate_unique(given, path)


def _validate_reference(name: str, known: set[str], path: FieldPath) -> list[FieldError]:
    parts = name.split("/")
    if len(parts) > 2:
        return [invalid(path, name, _NO_REQUEST)]
    errors = [error for part in parts for error in validate_label(part, path)]
    return errors if name in known else [*errors, invalid(path, name, _NO_REQUEST)]


def _validate_constraint(constraint: Object, known: set[str], path: FieldPath) -> list[FieldError]:
    errors = _validate_references(constraint.get("requests") or (), known, path.child("requests"))
    for field in ("matchAttribute", "distinctAttribute"):
        if constraint.get(field) is not None:
            return errors + _validate_full_name(constraint[field], path.child(field))
    text = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
    return [*errors, required(path, text)]


def _validate_full_name(name: str, path: FieldPath) -> list[FieldError]:
    errors = validate_qualified(name, path)
    if "/" not in name:
        text = "a fully qualified name must be a domain and a name separated by a slash"
        errors.append(invalid(path, name, text))
    return errors


def validate_qualified(name: str, path: FieldPath) -> list[FieldError]:
    domain, slash, tail = name.partition("/")
    if not slash:
        return _validate_identifier(name, path)
    if "/" in tail:
        return []
    errors = validate_csi_driver(domain, path) if domain else [invalid(path, "", "the domain must not be empty")]
    return errors + (_validate_identifier(tail, path) if tail else [invalid(path, "", "the name must not be empty")])


def _validate_identifier(name: str, path: FieldPath) -> list[FieldError]:
    errors = [too_long(path, 32)] if len(name.encode()) > 32 else []
    return errors + [invalid(path, name, text) for text in names.c_identifier(name)]


def _validate_config(config: Object, path: FieldPath) -> list[FieldError]:
    opaque = config.get("opaque")
    if opaque is None:
        return [required(path.child("opaque"))]
    where = path.child("opaque", "parameters")
    errors = validate_csi_driver(opaque.get("driver") or "", path.child("opaque", "driver"))
    parameters = opaque.get("parameters")
    if parameters is None:
        errors.append(required(where))
    elif not isinstance(parameters, dict):
        errors.append(invalid(where, "<value omitted>", "must be a valid JSON object"))
    return errors


def _validate_claim(claim: Object) -> list[FieldError]:
    return validate_devices((claim.get("spec") or {}).get("devices") or {}, _SPEC.child("devices"))


def _fixed(form: str) -> Callable[[Object, Object], list[FieldError]]:
    """A rule by which the spec stays as it was; ``form`` is what it is called in upstream's own shape."""

    def validate(new: Object, old: Object) -> list[FieldError]:
        if strategy.same_value(new.get("spec"), old.get("spec")):
            return []
        return [invalid(_SPEC, internal(form, new.get("spec")), metadata.IMMUTABLE)]

    return validate


def validate_claim_status(new: Object, old: Object) -> list[FieldError]:
    after, before, path = new.get("status") or {}, old.get("status") or {}, FieldPath("status")
    reserved, where = after.get("reservedFor") or (), path.child("reservedFor")

    def judge(consumer: Object, place: FieldPath) -> list[FieldError]:
        return [required(place.child(field)) for field in ("resource", "name", "uid") if not consumer.get(field)]

    errors = validate_list(reserved, 256, judge, where)
    if len(reserved) <= 256:
        errors += validate_unique([each.get("uid") or "" for each in reserved], where)
    given, was = after.get("allocation"), before.get("allocation")
    errors += _validate_device_statuses(after.get("devices") or (), _device_ids(given), path.child("devices"))
    if reserved and given is None:
        errors.append(forbidden(where, "may not be specified when `allocated` is not set"))
    elif reserved and (new.get("metadata") or {}).get("deletionTimestamp"):
        earlier = before.get("reservedFor") or ()
        if any(each not in earlier for each in reserved):
            text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
            errors.append(forbidden(where, text))
    where = path.child("allocation")
    if given is not None and was is not None:
        if given != was:
            errors.append(invalid(where, internal("AllocationResult", given), metadata.IMMUTABLE))
    elif given is not None:
        devices = (new.get("spec") or {}).get("devices") or {}
        errors += _validate_allocation(given, _names_of(devices), where)
    return errors


def _device_id(device: Object) -> str:
    """A device as upstream names one: driver, pool, name and share."""
    text = "/".join(device.get(field) or "" for field in ("driver", "pool", "device"))
    return f"{text}/{device['shareID']}" if device.get("shareID") else text


def _device_ids(allocation: Object | None) -> set[str]:
    results = ((allocation or {}).get("devices") or {}).get("results") or ()
    return {_device_id(each) for each in results}


def _validate_share(device: Object, path: FieldPath) -> list[FieldError]:
    share = device.get("shareID")
    if share is None or _UUID.fullmatch(share):
        return []
    if _ANY_UUID.fullmatch(share):
        text = (
            "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` "
            "with lowercase hexadecimal characters"
        )
    else:
        sized = len(share.encode()) in (32, 36, 38, 45)
        why = "invalid UUID format" if sized else f"invalid UUID length: {len(share.encode())}"
        text = f"error validating uid: {why}"
    return [invalid(path.child("shareID"), share, text)]


def _validate_device_statuses(devices: Sequence[Object], allocated: set[str], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, device in enumerate(devices):
        where = path.index(at)
        errors += validate_csi_driver(device.get("driver") or "", where.child("driver"))
        errors += validate_pool_name(device.get("pool") or "", where.child("pool"))
        errors += validate_label(device.get("device") or "", where.child("device"))
        errors += _validate_share(device, where)
        if _device_id(device) not in allocated:
            errors.append(invalid(where, _shown_id(device), "must be an allocated device in the claim"))
        conditions = device.get("conditions") or ()
        if len(conditions) > 8:
            errors.append(too_many(where.child("conditions"), len(conditions), 8))
        errors += validate_conditions(conditions, where.child("conditions"))
        if device.get("data") is not None and not isinstance(device["data"], dict):
            errors.append(invalid(where.child("data"), "<value omitted>", "must be a valid JSON object"))
        errors += _validate_network(device.get("networkData") or {}, where.child("networkData"))
    known = [_device_id(each) for each in devices]
    return errors + [
        duplicate(path.index(at), _shown_id(devices[at])) for at, key in enumerate(known) if key in known[:at]
    ]


def _shown_id(device: Object) -> Object:
    """The identity of a device as upstream prints it."""
    return {
        "Driver": device.get("driver") or "",
        "Pool": device.get("pool") or "",
        "Device": device.get("device") or "",
        "ShareID": device.get("shareID") or "",
    }


def _validate_network(data: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for field, most in (("interfaceName", 256), ("hardwareAddress", 128)):
        if len((data.get(field) or "").encode()) > most:
            errors.append(too_long(path.child(field), most))
    addresses = data.get("ips") or ()
    errors += validate_list(addresses, 16, validate_interface_address, path.child("ips"))
    return errors if len(addresses) > 16 else errors + validate_unique(addresses, path.child("ips"))


def _validate_allocation(allocation: Object, known: set[str], path: FieldPath) -> list[FieldError]:
    devices, where = allocation.get("devices") or {}, path.child("devices")

    def judge_result(result: Object, place: FieldPath) -> list[FieldError]:
        errors = _validate_reference(result.get("request") or "", known, place.child("request"))
        errors += validate_csi_driver(result.get("driver") or "", place.child("driver"))
        errors += validate_pool_name(result.get("pool") or "", place.child("pool"))
        errors += validate_label(result.get("device") or "", place.child("device"))
        errors += validate_binding(result, place)
        return errors + _validate_share(result, place)

    def judge_config(config: Object, place: FieldPath) -> list[FieldError]:
        source = config.get("source") or ""
        errors = [] if source else [required(place.child("source"))]
        if source and source not in ("FromClaim", "FromClass"):
            errors.append(not_supported(place.child("source"), source, ("FromClaim", "FromClass")))
        errors += _validate_references(config.get("requests") or (), known, place.child("requests"))
        return errors + _validate_config(config, place)

    errors = validate_list(devices.get("results") or (), 32, judge_result, where.child("results"))
    errors += validate_list(devices.get("config") or (), 64, judge_config, where.child("config"))
    if allocation.get("nodeSelector") is not None:
        errors += validate_node_selector(allocation["nodeSelector"], path.child("nodeSelector"))
    return errors


def validate_binding(device: Object, path: FieldPath) -> list[FieldError]:
    """Complaints about the conditions a device waits for before its pod is bound."""
    wanted, failed = (device.get(field) or [] for field in ("bindingConditions", "bindingFailureConditions"))
    success, failure = path.child("bindingConditions"), path.child("bindingFailureConditions")
    errors = validate_list(wanted, 4, lambda each, where: metadata.validate_label_key(each, where), success)
    errors += validate_list(failed, 4, lambda each, where: metadata.validate_label_key(each, where), failure)
    errors += validate_unique(wanted, success)
    for at, condition in enumerate(failed):
        if condition in failed[:at]:
            errors.append(duplicate(failure.index(at), condition))
        if condition in wanted:
            text = "bindingFailureConditions must not overlap with bindingConditions"
            errors.append(invalid(failure.index(at), condition, text))
    if failed and not wanted:
        text = "bindingConditions are required to use bindingFailureConditions"
        errors.append(invalid(success, device.get("bindingConditions"), text))
    if wanted and not failed:
        text = "bindingFailureConditions are required to use bindingConditions"
        errors.append(invalid(failure, device.get("bindingFailureConditions"), text))
    return errors


def validate_pool_name(name: str, path: FieldPath) -> list[FieldError]:
    if not name:
        return [required(path)]
    errors = [too_long(path, 253)] if len(name) > 253 else []
    return errors + [error for part in name.split("/") for error in metadata.validate_name(part, path)]


CLAIM = KindRules(
    default=default_claim,
    prepare_create=strategy.created(status={}, generation=False),
    prepare_update=strategy.updated(counted=()),
    prepare_status=strategy.status_only(keep_metadata=strategy.STATUS_METADATA),
    validate=_validate_claim,
    validate_update=_fixed("ResourceClaimSpec"),
    validate_status=validate_claim_status,
)


def _validate_template_metadata(template: Object) -> list[FieldError]:
    return validate_template_metadata((template.get("spec") or {}).get("metadata") or {}, _SPEC.child("metadata"))


def _validate_template(template: Object) -> list[FieldError]:
    devices = ((template.get("spec") or {}).get("spec") or {}).get("devices") or {}
    return _validate_template_metadata(template) + validate_devices(devices, _SPEC.child("spec", "devices"))


_FIXED_TEMPLATE = _fixed("ResourceClaimTemplateSpec")

CLAIM_TEMPLATE = KindRules(
    default=default_claim_template,
    validate=_validate_template,
    validate_update=lambda new, old: _validate_template(new) + _FIXED_TEMPLATE(new, old),
)


def validate_class(device_class: Object) -> list[FieldError]:
    spec = device_class.get("spec") or {}
    errors = validate_list(spec.get("selectors") or (), 32, _validate_selector, _SPEC.child("selectors"))
    errors += validate_list(spec.get("config") or (), 32, _validate_config, _SPEC.child("config"))
    name = spec.get("extendedResourceName")
    if name is not None and not _is_extended_resource(name):
        errors.append(invalid(_SPEC.child("extendedResourceName"), name, "must be a valid extended resource name"))
    return errors


def _is_extended_resource(name: str) -> bool:
    if "/" not in name or "kubernetes.io/" in name or name.startswith("requests."):
        return False
    return not names.label_key(f"requests.{name}")


DEVICE_CLASS = KindRules(
    default=lambda device_class: {**device_class, "spec": device_class.get("spec") or {}},
    prepare_create=strategy.created(),
    prepare_update=strategy.updated(keep=()),
    validate=validate_class,
    validate_update=lambda new, _old: validate_class(new),
)


RULES: Sequence[tuple[str, str, KindRules]] = (
    ("resource.k8s.io", "ResourceClaim", CLAIM),
    ("resource.k8s.io", "ResourceClaimTemplate", CLAIM_TEMPLATE),
    ("resource.k8s.io", "DeviceClass", DEVICE_CLASS),
)
