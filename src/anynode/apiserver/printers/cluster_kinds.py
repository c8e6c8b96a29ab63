"""Rows of what administrators look at: access, certificates, storage, admission, flow control, devices, leases.

Source: kubernetes ``pkg/printers/internalversion/printers.go`` and kube-aggregator ``pkg/registry/apiservice``, 1.36.
"""

from __future__ import annotations

import datetime
from typing import Any

from anynode.api import formats, objects
from anynode.api.objects import Object
from anynode.apiserver.printers.wording import NONE, UNSET, age

DEFAULT_STORAGE_CLASS = (
    "storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class",
)  # fmt: skip


def _spec(obj: Object) -> Object:
    return obj.get("spec") or {}


def role_binding(obj: Object, now: datetime.datetime) -> list[Any]:
    reference, subjects = obj.get("roleRef") or {}, obj.get("subjects") or ()
    named: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for each in subjects:
        kind, name = each.get("kind"), each.get("name", "")
        if kind in named:
            named[kind].append(f"{each.get('namespace', '')}/{name}" if kind == "ServiceAccount" else name)
    role = f"{reference.get('kind', '')}/{reference.get('name', '')}"
    return [objects.name_of(obj), role, age(obj, now), *(", ".join(names) for names in named.values())]


def signing_request(obj: Object, now: datetime.datetime) -> list[Any]:
    spec, status = _spec(obj), obj.get("status") or {}
    holding = {each.get("type") for each in status.get("conditions") or ()}
    state = "Denied" if "Denied" in holding else "Approved" if "Approved" in holding else "Pending"
    state += ",Failed" if "Failed" in holding else ""
    state += ",Issued" if status.get("certificate") else ""
    seconds = spec.get("expirationSeconds")
    asked = NONE if seconds is None else formats.human_duration(seconds)
    return [
        objects.name_of(obj), age(obj, now), spec.get("signerName") or NONE, spec.get("username", ""), asked, state,
    ]  # fmt: skip


def storage_class(obj: Object, now: datetime.datetime) -> list[Any]:
    name, annotations = objects.name_of(obj), objects.annotations_of(obj)
    if any(annotations.get(each) == "true" for each in DEFAULT_STORAGE_CLASS):
        name += " (default)"
    return [
        name,
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


def volume_attributes_class(obj: Object, now: datetime.datetime) -> list[Any]:
    return [objects.name_of(obj), obj.get("driverName", ""), age(obj, now)]


def volume_attachment(obj: Object, now: datetime.datetime) -> list[Any]:
    spec = _spec(obj)
    volume = (spec.get("source") or {}).get("persistentVolumeName") or ""
    attached = bool((obj.get("status") or {}).get("attached"))
    return [objects.name_of(obj), spec.get("attacher", ""), volume, spec.get("nodeName", ""), attached, age(obj, now)]


def csi_driver(obj: Object, now: datetime.datetime) -> list[Any]:
    spec = _spec(obj)
    requests, attach = spec.get("tokenRequests"), spec.get("attachRequired")
    return [
        objects.name_of(obj),
        True if attach is None else attach,
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        UNSET if requests is None else ",".join(each.get("audience", "") for each in requests),
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or NONE,
        age(obj, now),
    ]


def csi_node(obj: Object, now: datetime.datetime) -> list[Any]:
    return [objects.name_of(obj), len(_spec(obj).get("drivers") or ()), age(obj, now)]


def webhook_configuration(obj: Object, now: datetime.datetime) -> list[Any]:
    return [objects.name_of(obj), len(obj.get("webhooks") or ()), age(obj, now)]


def admission_policy(obj: Object, now: datetime.datetime) -> list[Any]:
    """Validating and mutating policies."""
    spec = _spec(obj)
    kind = spec.get("paramKind")
    said = UNSET if kind is None else f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}"
    return [objects.name_of(obj), len(spec.get("validations") or spec.get("mutations") or ()), said, age(obj, now)]


def admission_policy_binding(obj: Object, now: datetime.datetime) -> list[Any]:
    spec, said = _spec(obj), UNSET
    reference = spec.get("paramRef") or {}
    if reference.get("name"):
        said = f"{reference.get('namespace') or '*'}/{reference['name']}"
    elif reference.get("selector") is not None:
        said = _printed_selector(reference["selector"])
    return [objects.name_of(obj), spec.get("policyName", ""), said, age(obj, now)]


def _printed_selector(selector: Object) -> str:
    """A LabelSelector as Go's generated code prints it."""
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    expressions = "".join(
        f"LabelSelectorRequirement{{Key:{each.get('key', '')},Operator:{each.get('operator', '')},"
        f"Values:[{' '.join(each.get('values') or ())}],}},"
        for each in selector.get("matchExpressions") or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )


def priority_class(obj: Object, now: datetime.datetime) -> list[Any]:
    is_default, policy = bool(obj.get("globalDefault")), obj.get("preemptionPolicy") or ""
    return [objects.name_of(obj), obj.get("value") or 0, is_default, age(obj, now), policy]


def runtime_class(obj: Object, now: datetime.datetime) -> list[Any]:
    return [objects.name_of(obj), obj.get("handler", ""), age(obj, now)]


def lease(obj: Object, now: datetime.datetime) -> list[Any]:
    return [objects.name_of(obj), _spec(obj).get("holderIdentity") or "", age(obj, now)]


def flow_schema(obj: Object, now: datetime.datetime) -> list[Any]:
    spec = _spec(obj)
    method, dangling = spec.get("distinguisherMethod"), objects.condition_of(obj, "Dangling")
    return [
        objects.name_of(obj),
        (spec.get("priorityLevelConfiguration") or {}).get("name", ""),
        spec.get("matchingPrecedence") or 0,
        NONE if method is None else method.get("type", ""),
        age(obj, now),
        "?" if dangling is None else dangling.get("status", ""),
    ]


def priority_level(obj: Object, now: datetime.datetime) -> list[Any]:
    spec = _spec(obj)
    limited = spec.get("limited")
    shares: Any = NONE
    queues: list[Any] = [NONE, NONE, NONE]
    if limited is not None:
        shares = limited.get("nominalConcurrencyShares") or 0
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            queues = [queuing.get(field) or 0 for field in ("queues", "handSize", "queueLengthLimit")]
    return [objects.name_of(obj), spec.get("type", ""), shares, *queues, age(obj, now)]


def resource_claim(obj: Object, now: datetime.datetime) -> list[Any]:
    status = obj.get("status") or {}
    states = ["deleted"] if objects.is_deleting(obj) else []
    if status.get("allocation") is not None:
        states.append("allocated")
        if status.get("reservedFor"):
            states.append("reserved")
    elif not states:
        states.append("pending")
    return [objects.name_of(obj), ",".join(states), age(obj, now)]


def resource_slice(obj: Object, now: datetime.datetime) -> list[Any]:
    spec = _spec(obj)
    pool = (spec.get("pool") or {}).get("name", "")
    return [objects.name_of(obj), spec.get("nodeName") or "", spec.get("driver", ""), pool, age(obj, now)]


def api_service(obj: Object, now: datetime.datetime) -> list[Any]:
    service, said = _spec(obj).get("service"), "Local"
    if service is not None:
        said = f"{service.get('namespace', '')}/{service.get('name', '')}"
    available, state = objects.condition_of(obj, "Available"), "Unknown"
    if available is not None:
        state = available.get("status", "")
        if state != "True" and available.get("reason"):
            state = f"{state} ({available['reason']})"
    return [objects.name_of(obj), said, state, age(obj, now)]
