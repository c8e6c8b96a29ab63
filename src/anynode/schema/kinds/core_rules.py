"""What valid namespaces, configmaps, secrets, endpoints and nodes are.

Source: kubernetes ``pkg/apis/core/validation/validation.go``, ``pkg/apis/core/validation/events.go``, 1.36.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence

from anynode.api import names
from anynode.api.formats import Quantity
from anynode.api.objects import Object, annotations_of, is_deleting, namespace_of
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
from anynode.schema.kinds.addresses import dual_stack, validate_address, validate_range
from anynode.schema.kinds.amounts import validate_quantity
from anynode.schema.kinds.internal_form import internal
from anynode.schema.kinds.selection import validate_taint_effect
from anynode.schema.kinds.service_rules import validate_endpoint_ip

_MOST_BYTES = 1024 * 1024
_FEATURE = re.compile(r"[A-Z][a-zA-Z0-9]*(/[a-zA-Z][a-zA-Z0-9]*)*", re.ASCII)
_FROZEN = "field is immutable when `immutable` is set"
_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _decoded_size(text: str) -> int:
    return len(text) * 3 // 4 - text.count("=", -2)


def validate_namespace_finalizers(finalizers: Sequence[str], path: FieldPath, *, indexed: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, finalizer in enumerate(finalizers):
        where = path.index(at) if indexed else path
        errors += metadata.validate_label_key(finalizer, where)
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            text = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid(where, finalizer, text))
    return errors


def validate_namespace(namespace: Object) -> list[FieldError]:
    finalizers = (namespace.get("spec") or {}).get("finalizers") or ()
    return validate_namespace_finalizers(finalizers, FieldPath("spec.finalizers"), indexed=False)


def validate_namespace_finalize(new: Object, _old: Object) -> list[FieldError]:
    finalizers = (new.get("spec") or {}).get("finalizers") or ()
    return validate_namespace_finalizers(finalizers, FieldPath("spec.finalizers"), indexed=True)


def validate_namespace_status(new: Object, _old: Object) -> list[FieldError]:
    phase = (new.get("status") or {}).get("phase") or ""
    expected = "Terminating" if is_deleting(new) else "Active"
    if phase == expected:
        return []
    condition = "is not empty" if is_deleting(new) else "is empty"
    text = f"may only be '{expected}' if `deletionTimestamp` {condition}"
    return [invalid(FieldPath("status.Phase"), phase, text)]


def _validate_keys(data: Mapping[str, str], path: FieldPath) -> list[FieldError]:
    return [invalid(path.key(key), key, text) for key in sorted(data) for text in names.config_map_key(key)]


def validate_config_map(config_map: Object) -> list[FieldError]:
    data: Mapping[str, str] = config_map.get("data") or {}
    binary: Mapping[str, str] = config_map.get("binaryData") or {}
    errors: list[FieldError] = []
    path = FieldPath("data")
    for key in sorted(data):
        errors.extend(invalid(path.key(key), key, text) for text in names.config_map_key(key))
        if key in binary:
            errors.append(invalid(path.key(key), key, "duplicate of key present in binaryData"))
    errors += _validate_keys(binary, FieldPath("binaryData"))
    total = sum(map(_size, data.values())) + sum(map(_decoded_size, binary.values()))
    if total > _MOST_BYTES:
        errors.append(too_long(FieldPath(), _MOST_BYTES))
    return errors


def _validate_frozen(new: Object, old: Object, fields: Sequence[str]) -> list[FieldError]:
    if not old.get("immutable"):
        return []
    errors: list[FieldError] = []
    if not new.get("immutable"):
        errors.append(forbidden(FieldPath("immutable"), _FROZEN))
    changed = (field for field in fields if (new.get(field) or {}) != (old.get(field) or {}))
    errors.extend(forbidden(FieldPath(field), _FROZEN) for field in changed)
    return errors


def validate_config_map_update(new: Object, old: Object) -> list[FieldError]:
    return _validate_frozen(new, old, ("data", "binaryData")) + validate_config_map(new)


_TOKEN_ACCOUNT = "kubernetes.io/service-account.name"


def validate_secret(secret: Object) -> list[FieldError]:
    data: Mapping[str, str] = secret.get("data") or {}
    path, kind = FieldPath("data"), secret.get("type") or ""
    errors = _validate_keys(data, path)
    if sum(map(_decoded_size, data.values())) > _MOST_BYTES:
        errors.append(too_long(path, _MOST_BYTES))
    if kind == "kubernetes.io/service-account-token":
        if not annotations_of(secret).get(_TOKEN_ACCOUNT):
            errors.append(required(FieldPath("metadata.annotations").key(_TOKEN_ACCOUNT)))
    elif kind in ("kubernetes.io/dockercfg", "kubernetes.io/dockerconfigjson"):
        errors += _validate_docker(data, ".dockercfg" if kind.endswith("cfg") else ".dockerconfigjson", path)
    elif kind == "kubernetes.io/basic-auth":
        if "username" not in data and "password" not in data:
            errors += [required(path.key("username")), required(path.key("password"))]
    elif kind == "kubernetes.io/ssh-auth":
        if not data.get("ssh-privatekey"):
            errors.append(required(path.key("ssh-privatekey")))
    elif kind == "kubernetes.io/tls":
        errors.extend(required(path.key(key)) for key in ("tls.crt", "tls.key") if key not in data)
    return errors


def _validate_docker(data: Mapping[str, str], key: str, path: FieldPath) -> list[FieldError]:
    if key not in data:
        return [required(path.key(key))]
    try:
        found = json.loads(base64.b64decode(data[key]))
    except ValueError:
        text = "unexpected end of JSON input" if not data[key] else "invalid character looking for beginning of value"
        return [invalid(path.key(key), "<secret contents redacted>", text)]
    if isinstance(found, dict):
        return []
    kind = {str: "string", list: "array", bool: "bool", int: "number", float: "number"}.get(type(found), "null")
    text = f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
    return [invalid(path.key(key), "<secret contents redacted>", text)]


def validate_secret_update(new: Object, old: Object) -> list[FieldError]:
    errors = metadata.validate_immutable(new.get("type") or "", old.get("type") or "", FieldPath("type"))
    return errors + _validate_frozen(new, old, ("data",)) + validate_secret(new)


def validate_endpoints(endpoints: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, subset in enumerate(endpoints.get("subsets") or ()):
        path = FieldPath("subsets").index(at)
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            errors.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
        for field in ("addresses", "notReadyAddresses"):
            for place, address in enumerate(subset.get(field) or ()):
                errors += _validate_endpoint_address(address, path.child(field).index(place))
        ports = subset.get("ports") or ()
        for place, port in enumerate(ports):
            errors += validate_endpoint_port(port, len(ports) > 1, path.child("ports").index(place))
    return errors


def _validate_endpoint_address(address: Object, path: FieldPath) -> list[FieldError]:
    ip = address.get("ip") or ""
    errors = validate_address(ip, path.child("ip"))
    if address.get("hostname"):
        errors += metadata.validate_name(address["hostname"], path.child("hostname"), metadata.label_name)
    if address.get("nodeName") is not None:
        errors += metadata.validate_name(address["nodeName"], path.child("nodeName"))
    return errors + validate_endpoint_ip(ip, path.child("ip"))


def validate_endpoint_port(port: Object, named: bool, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    name, number, protocol = port.get("name") or "", port.get("port") or 0, port.get("protocol") or ""
    if name:
        errors += metadata.validate_name(name, path.child("name"), metadata.label_name)
    elif named:
        errors.append(required(path.child("name")))
    errors.extend(invalid(path.child("port"), number, text) for text in names.port_number(number))
    if protocol not in ("TCP", "UDP", "SCTP"):
        where = path.child("protocol")
        errors.append(not_supported(where, protocol, ("SCTP", "TCP", "UDP")) if protocol else required(where))
    if port.get("appProtocol") is not None:
        errors += metadata.validate_label_key(port["appProtocol"], path.child("appProtocol"))
    return errors


def validate_endpoints_update(new: Object, old: Object) -> list[FieldError]:
    same = (new.get("subsets") or []) == (old.get("subsets") or [])
    return [] if same else validate_endpoints(new)


def _validate_taints(node: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for at, taint in enumerate((node.get("spec") or {}).get("taints") or ()):
        path, key, effect = FieldPath("metadata.taints").index(at), taint.get("key") or "", taint.get("effect") or ""
        errors += metadata.validate_label_key(key, path.child("key"))
        value = taint.get("value") or ""
        wrong = names.label_value(value)
        if wrong:
            errors.append(invalid(path.child("value"), value, ";".join(wrong)))
        errors += validate_taint_effect(effect, path.child("effect"))
        if (key, effect) in seen:
            text = "taints must be unique by key and effect pair"
            errors.append(duplicate(path, internal("Taint", taint), text))
        seen.add((key, effect))
    return errors


def _validate_node_amounts(node: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    status = node.get("status") or {}
    for field in ("capacity", "allocatable"):
        for name, text in sorted((status.get(field) or {}).items()):
            errors += validate_quantity(name, Quantity.parse(text), FieldPath("status").child(field, name))
    return errors


def validate_node(node: Object) -> list[FieldError]:
    errors = _validate_taints(node) + _validate_node_amounts(node)
    ranges, path = (node.get("spec") or {}).get("podCIDRs") or (), FieldPath("spec.podCIDRs")
    for at, text in enumerate(ranges):
        errors += validate_range(text, path.index(at))
    if len(ranges) > 1 and (len(ranges) > 2 or not dual_stack(ranges)):
        errors.append(invalid(path, list(ranges), "may specify no more than one CIDR for each IP family"))
    return errors


def _validate_features(node: Object) -> list[FieldError]:
    """Complaints about the features a node says it has."""
    features, path = (node.get("status") or {}).get("declaredFeatures") or (), FieldPath("status.declaredFeatures")
    errors: list[FieldError] = []
    for at, name in enumerate(features):
        why = ""
        if len(name.encode()) > 253:
            why = "must be no more than 253 characters"
        elif not _FEATURE.fullmatch(name):
            why = (
                "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature "
                "or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
            )
        if why:
            errors.append(invalid(path.index(at), name, f'invalid feature name "{name}": {why}'))
        following = features[at + 1] if at + 1 < len(features) else None
        if following == name:
            errors.append(duplicate(path.index(at + 1), following))
        elif following is not None and name > following:
            errors.append(invalid(path.index(at + 1), following, "list must be sorted alphabetically"))
    return errors


def _validate_node_changes(new: Object, old: Object) -> list[FieldError]:
    errors = _validate_node_amounts(new) + _validate_features(new)
    after, before = new.get("spec") or {}, old.get("spec") or {}
    seen: list[Object] = []
    for at, address in enumerate((new.get("status") or {}).get("addresses") or ()):
        if address in seen:
            shown = {"Type": address.get("type") or "", "Address": address.get("address") or ""}
            errors.append(duplicate(FieldPath("status.addresses").index(at), shown))
        seen.append(address)
    text = 'node updates may not change {} except from "" to valid'
    if before.get("podCIDRs") and list(before["podCIDRs"]) != list(after.get("podCIDRs") or ()):
        errors.append(forbidden(FieldPath("spec.podCIDRs"), text.format("podCIDR")))
    if before.get("providerID") and before["providerID"] != after.get("providerID"):
        errors.append(forbidden(FieldPath("spec.providerID"), text.format("providerID")))
    errors += _validate_taints(new)
    if (after.get("externalID") or "") != (before.get("externalID") or ""):
        errors.append(forbidden(FieldPath("spec.externalID"), "may not be updated"))
    return errors


def validate_node_update(new: Object, old: Object) -> list[FieldError]:
    return validate_node(new) + _validate_node_changes(new, old)


def validate_node_status(new: Object, old: Object) -> list[FieldError]:
    return _validate_node_changes(new, old)


def validate_event_of(event: Object, regarding: str, controller: str) -> list[FieldError]:
    """Complaints both forms of an event share; ``regarding`` and ``controller`` are the form's field names."""
    errors: list[FieldError] = []
    about, namespace = (event.get(regarding) or {}).get("namespace") or "", namespace_of(event)
    path, text = FieldPath("involvedObject.namespace"), "does not match event.namespace"
    if not event.get("eventTime"):
        if (about and about != namespace) or (not about and namespace not in ("", "default")):
            errors.append(invalid(path, about, text))
        return errors + _validate_event_namespace(namespace)
    if not about and namespace not in ("default", "kube-system"):
        errors.append(invalid(path, about, text))
    name = event.get(controller) or ""
    if not name:
        errors.append(required(FieldPath(controller)))
    errors += metadata.validate_label_key(name, FieldPath(controller))
    for field, most in (("reportingInstance", 128), ("action", 128), ("reason", 128)):
        value = event.get(field) or ""
        if not value:
            errors.append(required(FieldPath(field)))
        if len(value) > most:
            errors.append(invalid(FieldPath(field), "", f"can have at most {most} characters"))
    if len(event.get("message") or event.get("note") or "") > 1024:
        errors.append(invalid(FieldPath("message"), "", "can have at most 1024 characters"))
    return errors + _validate_event_namespace(namespace)


def _validate_event_namespace(namespace: str) -> list[FieldError]:
    return [invalid(FieldPath("namespace"), namespace, text) for text in metadata.subdomain_name(namespace)]


def validate_core_event(event: Object) -> list[FieldError]:
    return validate_event_of(event, "involvedObject", "reportingComponent")


def _validate_series(event: Object) -> list[FieldError]:
    series = event.get("series")
    if series is None:
        return []
    errors: list[FieldError] = []
    if (series.get("count") or 0) < 2:
        errors.append(invalid(FieldPath("series.count"), "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        errors.append(required(FieldPath("series.lastObservedTime")))
    return errors


def validate_new_event(event: Object) -> list[FieldError]:
    errors = validate_event_of(event, "regarding", "reportingController") + _validate_series(event)
    if not event.get("eventTime"):
        errors.append(required(FieldPath("eventTime")))
    if event.get("type") not in ("Normal", "Warning"):
        errors.append(invalid(FieldPath("type"), "", f"has invalid value: {event.get('type') or ''}"))
    unset = {
        "deprecatedFirstTimestamp": "firstTimestamp",
        "deprecatedLastTimestamp": "lastTimestamp",
        "deprecatedCount": "count",
        "deprecatedSource": "source",
    }
    given = (shown for field, shown in unset.items() if event.get(field))
    return errors + [invalid(FieldPath(shown), "", "needs to be unset") for shown in given]


_FIXED = (
    ("regarding", "involvedObject"), ("reason", "reason"), ("note", "message"), ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"), ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"), ("reason", "reason"), ("type", "type"), ("eventTime", "eventTime"),
    ("action", "action"), ("related", "related"), ("reportingController", "reportingController"),
    ("reportingInstance", "reportingInstance"),
)  # fmt: skip


def validate_new_event_update(new: Object, old: Object) -> list[FieldError]:
    errors = validate_event_of(new, "regarding", "reportingController")
    if new.get("series") != old.get("series"):
        errors += _validate_series(new)
    for field, shown in _FIXED:
        value = new.get(field)
        if value is None and field in ("reason", "note", "type", "action", "reportingController", "reportingInstance"):
            value = ""
        if field == "regarding" or (field == "related" and value is not None):
            value = internal("ObjectReference", value)
        elif shown == "source":
            value = {"Component": (value or {}).get("component", ""), "Host": (value or {}).get("host", "")}
        if metadata.validate_immutable(new.get(field), old.get(field), FieldPath(shown)):
            errors.append(invalid(FieldPath(shown), value, metadata.IMMUTABLE))
    return errors
