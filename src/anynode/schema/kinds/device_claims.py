"""Devices: classes and claims of them, and the slices drivers publish.

CEL expressions are not compiled; all else is judged. Source: kubernetes ``pkg/apis/resource/validation/validation.go``,
``pkg/apis/resource/v1/defaults.go``, ``pkg/registry/resource/*/strategy.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from anynode.schema.kinds.selection import validate_node_selector
from anynode.schema.kinds.volume_rules import validate_csi_driver
from anynode.schema.rules import KindRules

_SPEC = FieldPath("spec")
_ONE_REQUEST = "exactly one of `exactly` or `firstAvailable` is required"
_ONE_PLACE = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
_NO_REQUEST = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
_EFFECTS = ("NoExecute", "NoSchedule", "None")


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


def _validate_list(
    items: Sequence[Any], most: int, judge: Callable[[Any, FieldPath], list[FieldError]], path: FieldPath
) -> list[FieldError]:
    if len(items) > most:
        return [too_many(path, len(items), most)]
    return [error for at, item in enumerate(items) for error in judge(item, path.index(at))]


def _validate_unique(keys: Sequence[str], path: FieldPath) -> list[FieldError]:
    return [duplicate(path.index(at), key) for at, key in enumerate(keys) if key in keys[:at]]


def _validate_named(
    items: Sequence[Object], most: int, judge: Callable[[Object, FieldPath], list[FieldError]], path: FieldPath
) -> list[FieldError]:
    """As ``_validate_list``, the names being unique."""
    errors = _validate_list(items, most, judge, path)
    if len(items) > most:
        return errors
    return errors + _validate_unique([each.get("name") or "" for each in items], path)


def validate_devices(devices: Object, path: FieldPath) -> list[FieldError]:
    known = _names_of(devices)
    errors = _validate_named(devices.get("requests") or (), 32, _validate_request, path.child("requests"))
    errors += _validate_list(
        devices.get("constraints") or (),
        32,
        lambda each, where: _validate_constraint(each, known, where),
        path.child("constraints"),
    )
    return errors + _validate_list(
        devices.get("config") or (),
        32,
        lambda each, where: (
            _validate_references(each.get("requests") or (), known, where.child("requests"))
            + _validate_config(each, where)
        ),
        path.child("config"),
    )


def _validate_label(name: str, path: FieldPath) -> list[FieldError]:
    return metadata.validate_name(name, path, metadata.label_name)


def _validate_request(request: Object, path: FieldPath) -> list[FieldError]:
    errors = _validate_label(request.get("name") or "", path.child("name"))
    exactly, first = request.get("exactly"), request.get("firstAvailable") or ()
    if exactly is None and not first:
        return [*errors, required(path, _ONE_REQUEST)]
    if exactly is not None and first:
        return [*errors, invalid(path, None, f"{_ONE_REQUEST}, but multiple fields are set")]
    if exactly is not None:
        return errors + _validate_amount(exactly, path.child("exactly"))

    def judge(alternative: Object, where: FieldPath) -> list[FieldError]:
        wrong = _validate_label(alternative.get("name") or "", where.child("name"))
        return wrong + _validate_amount(alternative, where)

    return errors + _validate_named(first, 8, judge, path.child("firstAvailable"))


def _validate_amount(request: Object, path: FieldPath) -> list[FieldError]:
    name, where = request.get("deviceClassName") or "", path.child("deviceClassName")
    errors = metadata.validate_name(name, where) if name else [required(where)]
    errors += _validate_list(request.get("selectors") or (), 32, _validate_selector, path.child("selectors"))
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
    expression = selector["cel"].get("expression") or ""
    if len(expression.encode()) > 10 * 1024:
        return [too_long(path.child("cel", "expression"), 10 * 1024)]
    return []


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
    if effect and effect not in _EFFECTS:
        errors.append(not_supported(path.child("effect"), effect, _EFFECTS))
    return errors


def _validate_references(given: Sequence[str], known: set[str], path: FieldPath) -> list[FieldError]:
    def judge(name: str, where: FieldPath) -> list[FieldError]:
        parts = name.split("/")
        if len(parts) > 2:
            return [invalid(where, name, _NO_REQUEST)]
        errors = [error for part in parts for error in _validate_label(part, where)]
        return errors if name in known else [*errors, invalid(where, name, _NO_REQUEST)]

    errors = _validate_list(given, 32, judge, path)
    return errors if len(given) > 32 else errors + _validate_unique(given, path)


def _validate_constraint(constraint: Object, known: set[str], path: FieldPath) -> list[FieldError]:
    errors = _validate_references(constraint.get("requests") or (), known, path.child("requests"))
    for field in ("matchAttribute", "distinctAttribute"):
        if constraint.get(field) is not None:
            return errors + _validate_full_name(constraint[field], path.child(field))
    text = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
    return [*errors, required(path, text)]


def _validate_full_name(name: str, path: FieldPath) -> list[FieldError]:
    errors = _validate_qualified(name, path)
    if "/" not in name:
        text = "a fully qualified name must be a domain and a name separated by a slash"
        errors.append(invalid(path, name, text))
    return errors


def _validate_qualified(name: str, path: FieldPath) -> list[FieldError]:
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


def _validate_fixed(new: Object, old: Object) -> list[FieldError]:
    return metadata.validate_immutable(new.get("spec"), old.get("spec"), _SPEC)


def validate_claim_status(new: Object, old: Object) -> list[FieldError]:
    after, before, path = new.get("status") or {}, old.get("status") or {}, FieldPath("status")
    reserved, where = after.get("reservedFor") or (), path.child("reservedFor")

    def judge(consumer: Object, place: FieldPath) -> list[FieldError]:
        return [required(place.child(field)) for field in ("resource", "name", "uid") if not consumer.get(field)]

    errors = _validate_list(reserved, 256, judge, where)
    errors += _validate_unique([each.get("uid") or "" for each in reserved], where)
    if reserved and after.get("allocation") is None:
        errors.append(forbidden(where, "may not be specified when `allocated` is not set"))
    if before.get("allocation") is not None and after.get("allocation") is not None:
        errors += metadata.validate_immutable(after["allocation"], before["allocation"], path.child("allocation"))
    return errors


CLAIM = KindRules(
    default=default_claim,
    prepare_create=strategy.created(status={}, generation=False),
    prepare_update=strategy.updated(counted=()),
    prepare_status=strategy.status_only(),
    validate=_validate_claim,
    validate_update=_validate_fixed,
    validate_status=validate_claim_status,
)


def _validate_template(template: Object) -> list[FieldError]:
    spec = template.get("spec") or {}
    path, meta = _SPEC.child("metadata"), spec.get("metadata") or {}
    errors = metadata.validate_annotations(meta.get("annotations"), path.child("annotations"))
    errors += metadata.validate_labels(meta.get("labels"), path.child("labels"))
    devices = (spec.get("spec") or {}).get("devices") or {}
    return errors + validate_devices(devices, _SPEC.child("spec", "devices"))


CLAIM_TEMPLATE = KindRules(
    default=default_claim_template,
    validate=_validate_template,
    validate_update=lambda new, old: _validate_template(new) + _validate_fixed(new, old),
)


def validate_class(device_class: Object) -> list[FieldError]:
    spec = device_class.get("spec") or {}
    errors = _validate_list(spec.get("selectors") or (), 32, _validate_selector, _SPEC.child("selectors"))
    return errors + _validate_list(spec.get("config") or (), 32, _validate_config, _SPEC.child("config"))


DEVICE_CLASS = KindRules(
    default=lambda device_class: {**device_class, "spec": device_class.get("spec") or {}},
    prepare_create=strategy.created(),
    prepare_update=strategy.updated(keep=()),
    validate=validate_class,
    validate_update=lambda new, _old: validate_class(new),
)


def validate_slice(resource_slice: Object) -> list[FieldError]:
    spec = resource_slice.get("spec") or {}
    errors = validate_csi_driver(spec.get("driver") or "", _SPEC.child("driver"))
    errors += _validate_pool(spec.get("pool") or {}, _SPEC.child("pool"))
    errors += _validate_place(spec)
    if spec.get("sharedCounters") and spec.get("devices"):
        errors.append(invalid(_SPEC, "", "only one of `sharedCounters` or `devices` is allowed"))
    devices = spec.get("devices") or ()
    most = 64 if any(each.get("taints") or each.get("consumesCounters") for each in devices) else 128
    return errors + _validate_named(devices, most, _validate_device, _SPEC.child("devices"))


def _validate_pool(pool: Object, path: FieldPath) -> list[FieldError]:
    name, count, generation = pool.get("name") or "", pool.get("resourceSliceCount") or 0, pool.get("generation") or 0
    errors: list[FieldError] = []
    if not name:
        errors.append(required(path.child("name")))
    else:
        if len(name) > 253:
            errors.append(too_long(path.child("name"), 253))
        for part in name.split("/"):
            errors += metadata.validate_name(part, path.child("name"))
    if count <= 0:
        errors.append(invalid(path.child("resourceSliceCount"), count, "must be greater than zero"))
    if generation < 0:
        errors.append(invalid(path.child("generation"), generation, "must be greater than or equal to zero"))
    return errors


def _validate_place(spec: Object) -> list[FieldError]:
    """Complaints about which nodes the devices belong to."""
    errors: list[FieldError] = []
    given: list[str] = []
    name, selector = spec.get("nodeName"), spec.get("nodeSelector")
    if name:
        given.append("`nodeName`")
        errors += metadata.validate_name(name, _SPEC.child("nodeName"))
    elif name is not None:
        text = "must be either unset or set to a non-empty string"
        errors.append(invalid(_SPEC.child("nodeName"), name, text))
    if selector is not None:
        given.append("`nodeSelector`")
        where = _SPEC.child("nodeSelector")
        errors += validate_node_selector(selector, where)
        terms = selector.get("nodeSelectorTerms") or []
        if len(terms) != 1:
            text = "must have exactly one node selector term"
            errors.append(invalid(where.child("nodeSelectorTerms"), terms or None, text))
    for field in ("allNodes", "perDeviceNodeSelection"):
        if spec.get(field):
            given.append(f"`{field}`")
        elif spec.get(field) is not None:
            errors.append(invalid(_SPEC.child(field), False, "must be either unset or set to true"))
    if not given:
        errors.append(required(_SPEC, _ONE_PLACE))
    elif len(given) > 1:
        errors.append(invalid(_SPEC, f"{{{', '.join(given)}}}", f"{_ONE_PLACE}, but multiple fields are set"))
    return errors


def _validate_device(device: Object, path: FieldPath) -> list[FieldError]:
    errors = _validate_label(device.get("name") or "", path.child("name"))
    attributes: Mapping[str, Object] = device.get("attributes") or {}
    capacity: Mapping[str, Object] = device.get("capacity") or {}
    if len(attributes) + len(capacity) > 32:
        text = "the total number of attributes and capacities must not exceed 32"
        errors.append(invalid(path, len(attributes) + len(capacity), text))
    for key in sorted(attributes):
        where = path.child("attributes")
        errors += _validate_qualified(key, where)
        given = [field for field in attributes[key] if attributes[key][field] is not None]
        if len(given) != 1:
            shown = attributes[key] if given else ""
            errors.append(invalid(where.key(key), shown, "exactly one value must be specified"))
    for key in sorted(capacity):
        errors += _validate_qualified(key, path.child("capacity"))
    for at, taint in enumerate(device.get("taints") or ()):
        errors += _validate_taint(taint, path.child("taints").index(at))
    return errors


def _validate_taint(taint: Object, path: FieldPath) -> list[FieldError]:
    errors = metadata.validate_label_key(taint.get("key") or "", path.child("key"))
    value, effect = taint.get("value") or "", taint.get("effect") or ""
    errors.extend(invalid(path.child("value"), value, text) for text in names.label_value(value))
    if not effect:
        errors.append(required(path.child("effect")))
    elif effect not in _EFFECTS:
        errors.append(not_supported(path.child("effect"), effect, _EFFECTS))
    return errors


def validate_slice_update(new: Object, old: Object) -> list[FieldError]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    errors = validate_slice(new)
    for path in (("pool", "name"), ("driver",), ("nodeName",)):
        value, was = (_at(each, path) for each in (after, before))
        errors += metadata.validate_immutable(value, was, _SPEC.child(*path))
    return errors


def _at(spec: Object, path: Sequence[str]) -> Any:
    found: Any = spec
    for name in path:
        found = (found or {}).get(name)
    return found


RESOURCE_SLICE = KindRules(
    prepare_create=strategy.created(),
    prepare_update=strategy.updated(keep=()),
    validate=validate_slice,
    validate_update=validate_slice_update,
)

RULES: Sequence[tuple[str, str, KindRules]] = (
    ("resource.k8s.io", "ResourceClaim", CLAIM),
    ("resource.k8s.io", "ResourceClaimTemplate", CLAIM_TEMPLATE),
    ("resource.k8s.io", "DeviceClass", DEVICE_CLASS),
    ("resource.k8s.io", "ResourceSlice", RESOURCE_SLICE),
)
