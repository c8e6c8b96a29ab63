"""The slices in which drivers publish their devices.

Source: kubernetes ``pkg/apis/resource/validation/validation.go`` (``validateResourceSliceSpec`` and what it calls),
``pkg/registry/resource/resourceslice/strategy.go``, 1.36.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence

from anynode.api import names
from anynode.api.formats import Quantity
from anynode.api.objects import Object
from anynode.schema import metadata
from anynode.schema.fields import (
    FieldError,
    FieldPath,
    duplicate,
    forbidden,
    invalid,
    not_found,
    not_supported,
    required,
    too_long,
    too_many,
)
from anynode.schema.kinds import strategy
from anynode.schema.kinds.device_claims import (
    EFFECTS,
    validate_binding,
    validate_label,
    validate_list,
    validate_named,
    validate_pool_name,
    validate_qualified,
    validate_unique,
)
from anynode.schema.kinds.internal_form import internal
from anynode.schema.kinds.selection import validate_node_selector
from anynode.schema.kinds.volume_rules import validate_csi_driver
from anynode.schema.rules import KindRules

_SPEC = FieldPath("spec")
_ONE_PLACE = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
_ONE_NODE = (
    "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true "
    "in the ResourceSlice spec"
)
_MOST_VALUE = 64
_NUMBER, _PRE = r"(0|[1-9]\d*)", r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_LISTS = ("bools", "ints", "strings", "versions")


def _is_version(text: str) -> bool:
    pattern = rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PRE}(\.{_PRE})*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?"
    return re.fullmatch(pattern, text, re.ASCII) is not None


def _has_advanced(device: Object) -> bool:
    lists = any(each.get(field) is not None for each in (device.get("attributes") or {}).values() for field in _LISTS)
    return lists or bool(device.get("taints") or device.get("consumesCounters"))


def validate_slice(resource_slice: Object) -> list[FieldError]:
    return _validate_slice(resource_slice, None)


def _validate_slice(resource_slice: Object, old: Object | None) -> list[FieldError]:
    spec = resource_slice.get("spec") or {}
    errors = validate_csi_driver(spec.get("driver") or "", _SPEC.child("driver"))
    errors += _validate_pool(spec.get("pool") or {}, _SPEC.child("pool"))
    before = (old or {}).get("spec") or {}
    if old is not None:
        name, was = ((each.get("pool") or {}).get("name") or "" for each in (spec, before))
        errors += metadata.validate_immutable(name, was, _SPEC.child("pool", "name"))
        driver, was = (each.get("driver") or "" for each in (spec, before))
        errors += metadata.validate_immutable(driver, was, _SPEC.child("driver"))
        if spec.get("nodeName") != before.get("nodeName"):
            errors.append(invalid(_SPEC.child("nodeName"), spec.get("nodeName"), metadata.IMMUTABLE))
    errors += _validate_place(spec)
    if spec.get("sharedCounters") is not None and spec.get("devices") is not None:
        errors.append(invalid(_SPEC, "", "only one of `sharedCounters` or `devices` is allowed"))
    devices = spec.get("devices") or ()
    known = {each.get("name") or "": each for each in before.get("devices") or ()}
    per_device = bool(spec.get("perDeviceNodeSelection"))

    def judge(device: Object, where: FieldPath) -> list[FieldError]:
        return _validate_device(device, known.get(device.get("name") or ""), where, per_device=per_device)

    errors += validate_named(devices, 64 if any(map(_has_advanced, devices)) else 128, judge, _SPEC.child("devices"))
    return errors + validate_named(
        spec.get("sharedCounters") or (),
        8,
        lambda each, where: _validate_counters(each, "name", 32, where),
        _SPEC.child("sharedCounters"),
    )


def _validate_counters(owner: Object, field: str, most: int, path: FieldPath) -> list[FieldError]:
    """Complaints about counters by name; ``field`` names their set."""
    name = owner.get(field) or ""
    errors = validate_label(name, path.child(field)) if name else [required(path.child(field))]
    counters, where = owner.get("counters") or {}, path.child("counters")
    if not counters:
        return [*errors, required(where)]
    if len(counters) > most:
        return [*errors, too_many(where, len(counters), most)]
    return errors + [error for key in sorted(counters) for error in validate_label(key, where)]


def _validate_pool(pool: Object, path: FieldPath) -> list[FieldError]:
    name, count, generation = pool.get("name") or "", pool.get("resourceSliceCount") or 0, pool.get("generation") or 0
    errors = validate_pool_name(name, path.child("name"))
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
            errors.append(invalid(where.child("nodeSelectorTerms"), terms if terms else None, text))
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


def _validate_device(device: Object, old: Object | None, path: FieldPath, *, per_device: bool) -> list[FieldError]:
    errors = validate_label(device.get("name") or "", path.child("name"))
    attributes: Mapping[str, Object] = device.get("attributes") or {}
    capacity: Mapping[str, Object] = device.get("capacity") or {}
    if len(attributes) + len(capacity) > 32:
        text = "the total number of attributes and capacities must not exceed 32"
        errors.append(invalid(path, len(attributes) + len(capacity), text))
    values = sum(sum(len(each.get(field) or ()) for field in _LISTS) or 1 for each in attributes.values())
    if values > 48:
        errors.append(invalid(path, values, "the total number of attribute values must not exceed 48"))
    where = path.child("attributes")
    for key in sorted(attributes):
        errors += validate_qualified(key, where) + _validate_attribute(attributes[key], where.key(_shortened(key)))
    where = path.child("capacity")
    for key in sorted(capacity):
        errors += validate_qualified(key, where)
        shared = bool(device.get("allowMultipleAllocations"))
        errors += _validate_capacity(capacity[key], where.key(_shortened(key)), shared=shared)
    if old is None or not strategy.same_value(old.get("taints"), device.get("taints")):
        errors += validate_list(device.get("taints") or (), 16, _validate_taint, path.child("taints"))
    consumed, where = device.get("consumesCounters") or (), path.child("consumesCounters")
    errors += validate_list(consumed, 2, lambda each, at: _validate_counters(each, "counterSet", 32, at), where)
    if len(consumed) <= 2:
        errors += validate_unique([each.get("counterSet") or "" for each in consumed], where)
    errors += _validate_device_place(device, path) if per_device else _validate_no_place(device, path)
    errors += validate_binding(device, path)
    mappings, where = device.get("nodeAllocatableResourceMappings") or {}, path.child("nodeAllocatableResourceMappings")
    return errors + [
        error for key in sorted(mappings) for error in _validate_mapping(key, mappings[key], capacity, where.key(key))
    ]


def _shortened(key: str, most: int = 96) -> str:
    """A key as paths show it: of one too long the middle is left out."""
    if len(key) <= most:
        return key
    rest = most - 3
    return f"{key[: (rest + 1) // 2]}...{key[len(key) - rest // 2 :]}"


def _validate_attribute(attribute: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    given = [field for field in attribute if attribute[field] is not None]
    judges: Mapping[str, Callable[[str, FieldPath], list[FieldError]]] = {
        "string": _validate_text,
        "version": _validate_version,
    }
    for field, judge in judges.items():
        if attribute.get(field) is not None:
            errors += judge(attribute[field], path.child(field))
    for field in _LISTS:
        values, where = attribute.get(field), path.child(field)
        if values is not None and not values:
            errors.append(invalid(where, values, "must not be empty if specified"))
        item_judge = judges.get(field[:-1])
        for at, value in enumerate(values or ()):
            errors += item_judge(value, where.index(at)) if item_judge is not None else []
    if len(given) != 1:
        shown = internal("DeviceAttribute", attribute) if given else ""
        errors.append(invalid(path, shown, "exactly one value must be specified"))
    return errors


def _validate_text(value: str, path: FieldPath) -> list[FieldError]:
    return [too_long(path, _MOST_VALUE)] if len(value.encode()) > _MOST_VALUE else []


def _validate_version(value: str, path: FieldPath) -> list[FieldError]:
    text = "must be a string compatible with semver.org spec 2.0.0"
    return ([] if _is_version(value) else [invalid(path, value, text)]) + _validate_text(value, path)


def _validate_capacity(capacity: Object, path: FieldPath, *, shared: bool) -> list[FieldError]:
    policy, where = capacity.get("requestPolicy"), path.child("requestPolicy")
    if policy is None:
        return []
    if not shared:
        return [forbidden(where, "allowMultipleAllocations must be true")]
    values, limits = policy.get("validValues") or (), policy.get("validRange")
    if values and limits is not None:
        text = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        return [forbidden(where, text)]
    field = "validValues" if values else "validRange"
    if not values and limits is None:
        return []
    if policy.get("default") is None:
        return [required(where.child("default"), f"required when {field} is defined")]
    most = str(capacity.get("value") or "0")
    if values:
        return _validate_options(str(policy["default"]), most, [str(each) for each in values], where.child(field))
    return _validate_limits(str(policy["default"]), most, limits, where.child(field))


def _amount(text: str) -> int:
    return Quantity.parse(text).nano


def _validate_options(default: str, most: str, options: Sequence[str], path: FieldPath) -> list[FieldError]:
    errors = [
        invalid(path.index(at + 1), after, "values must be sorted in ascending order")
        for at, (before, after) in enumerate(itertools.pairwise(options))
        if _amount(before) > _amount(after)
    ]
    if len(options) > 10:
        errors.append(too_many(path, len(options), 10))
    else:
        errors += [
            invalid(path.index(at), each, f"option is larger than capacity value: {most}")
            for at, each in enumerate(options)
            if _amount(each) > _amount(most)
        ]
        whole = [str(-(-_amount(each) // 10**9)) for each in options]
        errors += [duplicate(path.index(at), each) for at, each in enumerate(whole) if each in whole[:at]]
    if len(options) > 10 or all(_amount(each) != _amount(default) for each in options):
        errors.append(invalid(path, default, "default value is not valid according to the requestPolicy"))
    return errors


def _validate_limits(default: str, capacity: str, limits: Object, path: FieldPath) -> list[FieldError]:
    if limits.get("min") is None:
        return [required(path.child("min"), "required when validRange is defined")]
    least, errors = str(limits["min"]), list[FieldError]()
    if _amount(least) > _amount(capacity):
        errors.append(invalid(path.child("min"), least, f"min is larger than capacity value: {capacity}"))
    if _amount(default) < _amount(least):
        errors.append(invalid(path.child("min"), default, f"default is less than min: {least}"))
    most, step = (None if limits.get(field) is None else str(limits[field]) for field in ("max", "step"))
    if most is not None:
        where = path.child("max")
        if _amount(least) > _amount(most):
            errors.append(invalid(where, least, f"min is larger than max: {most}"))
        if _amount(most) > _amount(capacity):
            errors.append(invalid(where, most, f"max is larger than capacity value: {capacity}"))
        if _amount(default) > _amount(most):
            errors.append(invalid(where, default, f"default is more than max: {most}"))
    if step is not None:
        where = path.child("step")
        if _amount(least) + _amount(step) > _amount(capacity):
            added = (Quantity.parse(least).nano + Quantity.parse(step).nano) // 10**9
            errors.append(invalid(where, step, f"one step {added} is larger than capacity value: {capacity}"))
        for value in (default, *(() if most is None else (most,))):
            if _amount(step) and (_amount(value) - _amount(least)) % _amount(step):
                text = f"value is not a multiple of a given step ({step}) from ({least})"
                errors.append(invalid(where, value, text))
    return errors


def _validate_device_place(device: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    given: list[str] = []
    name, selector, everywhere = (device.get(field) for field in ("nodeName", "nodeSelector", "allNodes"))
    if name:
        given.append("`nodeName`")
        errors += metadata.validate_name(name, path.child("nodeName"))
    elif name is not None:
        errors.append(invalid(path.child("nodeName"), name, "must not be empty"))
    if selector is not None:
        given.append("`nodeSelector`")
        errors += validate_node_selector(selector, path.child("nodeSelector"))
    if everywhere:
        given.append("`allNodes`")
    elif everywhere is not None:
        errors.append(invalid(path.child("allNodes"), False, "must be either unset or set to true"))
    if not given:
        errors.append(required(path, _ONE_NODE))
    elif len(given) > 1:
        errors.append(invalid(path, f"{{{', '.join(given)}}}", _ONE_NODE))
    return errors


def _validate_no_place(device: Object, path: FieldPath) -> list[FieldError]:
    if all(device.get(field) is None for field in ("nodeName", "nodeSelector", "allNodes")):
        return []
    text = (
        "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the "
        "ResourceSlice spec"
    )
    return [invalid(path, None, text)]


def _validate_mapping(name: str, mapping: Object, capacity: Mapping[str, Object], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    if "/" in name and "kubernetes.io/" not in name:
        errors.append(invalid(path, name, "must be a node allocatable resource name"))
    factor, key = mapping.get("allocationMultiplier"), mapping.get("capacityKey")
    if factor is None and key is None:
        return [*errors, invalid(path, "", "at least one of allocationMultiplier or capacityKey must be set")]
    if factor is not None and _amount(str(factor)) <= 0:
        errors.append(invalid(path.child("allocationMultiplier"), str(factor), "must be positive"))
    if key == "":
        errors.append(invalid(path.child("capacityKey"), "", "capacityKey must not be an empty string"))
    elif key is not None and key not in capacity:
        errors.append(not_found(path.child("capacityKey"), key))
    return errors


def _validate_taint(taint: Object, path: FieldPath) -> list[FieldError]:
    errors = metadata.validate_label_key(taint.get("key") or "", path.child("key"))
    value, effect = taint.get("value") or "", taint.get("effect") or ""
    errors.extend(invalid(path.child("value"), value, text) for text in names.label_value(value))
    if not effect:
        errors.append(required(path.child("effect")))
    elif effect not in EFFECTS:
        errors.append(not_supported(path.child("effect"), effect, EFFECTS))
    return errors


RESOURCE_SLICE = KindRules(
    prepare_create=strategy.created(),
    prepare_update=strategy.updated(keep=()),
    validate=validate_slice,
    validate_update=_validate_slice,
    field_labels=("spec.nodeName", "spec.driver"),
)

RULES: Sequence[tuple[str, str, KindRules]] = (("resource.k8s.io", "ResourceSlice", RESOURCE_SLICE),)
