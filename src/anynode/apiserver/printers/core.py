"""Rows of core kinds: configuration, nodes, namespaces, events, volumes, quotas.

Source: kubernetes ``pkg/printers/internalversion/printers.go``, 1.36.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from anynode.api import objects
from anynode.api.objects import Object
from anynode.apiserver.printers.wording import NONE, UNKNOWN, UNSET, age, since, sorted_set

ROLE_LABEL = "kubernetes.io/role"
ROLE_PREFIX = "node-role.kubernetes.io/"
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
ACCESS_MODES = (
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
)


def name_and_age(obj: Object, now: datetime.datetime) -> list[Any]:
    return [objects.name_of(obj), age(obj, now)]


def component_status(obj: Object, _now: datetime.datetime) -> list[Any]:
    found = objects.find_condition(obj.get("conditions") or (), "Healthy")
    if found is None:
        return [objects.name_of(obj), "Unknown", "", ""]
    state = "Healthy" if found.get("status") == "True" else "Unhealthy"
    return [objects.name_of(obj), state, found.get("message", ""), found.get("error", "")]


def config_map(obj: Object, now: datetime.datetime) -> list[Any]:
    count = len(obj.get("data") or ()) + len(obj.get("binaryData") or ())
    return [objects.name_of(obj), count, age(obj, now)]


def secret(obj: Object, now: datetime.datetime) -> list[Any]:
    return [objects.name_of(obj), obj.get("type", ""), len(obj.get("data") or ()), age(obj, now)]


def namespace(obj: Object, now: datetime.datetime) -> list[Any]:
    return [objects.name_of(obj), objects.get_path(obj, "status", "phase", default=""), age(obj, now)]


def node(obj: Object, now: datetime.datetime) -> list[Any]:
    status = obj.get("status") or {}
    ready = objects.find_condition(status.get("conditions") or (), "Ready")
    states = ["Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"]
    if objects.get_path(obj, "spec", "unschedulable"):
        states.append("SchedulingDisabled")
    about = status.get("nodeInfo") or {}
    kernel = about.get("kernelVersion") or UNKNOWN
    if about.get("architecture"):
        kernel += f" ({about['architecture']})"
    return [
        objects.name_of(obj),
        ",".join(states),
        ",".join(node_roles(obj)) or NONE,
        age(obj, now),
        about.get("kubeletVersion", ""),
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        about.get("osImage") or UNKNOWN,
        kernel,
        about.get("containerRuntimeVersion") or UNKNOWN,
    ]


def node_roles(obj: Object) -> list[str]:
    """The roles a node's labels name, sorted."""
    labels = objects.labels_of(obj)
    named = [key.removeprefix(ROLE_PREFIX) for key in labels if key.startswith(ROLE_PREFIX)]
    return sorted_set([*named, labels.get(ROLE_LABEL, "")])


def _address(status: Object, kind: str) -> str:
    addresses = status.get("addresses") or ()
    return next((each.get("address", "") for each in addresses if each.get("type") == kind), NONE)


def event(obj: Object, now: datetime.datetime) -> list[Any]:
    """Events of both groups: events.k8s.io names the same fields differently."""
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    first_time = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp")
    last_time = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp")
    first = since(first_time or obj.get("eventTime"), now)
    last = since(last_time, now) if last_time else first
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    series = obj.get("series")
    if series is not None:
        last, count = since(series.get("lastObservedTime"), now), series.get("count") or 0
    kind = (about.get("kind") or "").lower()
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    instance = source.get("host") or obj.get("reportingInstance") or ""
    return [
        last,
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{kind}/{about['name']}" if about.get("name") else kind,
        about.get("fieldPath", ""),
        f"{component}, {instance}" if instance else component,
        (obj.get("message") or obj.get("note") or "").strip(),
        first,
        count,
        objects.name_of(obj),
    ]


def access_modes(modes: Sequence[str] | None) -> str:
    """``RWO,RWX``"""
    return ",".join(short for mode, short in ACCESS_MODES if mode in (modes or ()))


def _storage_class(obj: Object, spec: Object) -> str:
    annotated = objects.annotations_of(obj).get(CLASS_ANNOTATION)
    return annotated if annotated is not None else spec.get("storageClassName") or ""


def persistent_volume(obj: Object, now: datetime.datetime) -> list[Any]:
    spec, status, claim = obj.get("spec") or {}, obj.get("status") or {}, ""
    reference = spec.get("claimRef")
    if reference is not None:
        claim = f"{reference.get('namespace', '')}/{reference.get('name', '')}"
    return [
        objects.name_of(obj),
        (spec.get("capacity") or {}).get("storage", "0"),
        access_modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        "Terminating" if objects.is_deleting(obj) else status.get("phase", ""),
        claim,
        _storage_class(obj, spec),
        _or_unset(spec.get("volumeAttributesClassName")),
        status.get("reason", ""),
        age(obj, now),
        _or_unset(spec.get("volumeMode")),
    ]


def persistent_volume_claim(obj: Object, now: datetime.datetime) -> list[Any]:
    spec, status, volume = obj.get("spec") or {}, obj.get("status") or {}, ""
    capacity, modes = "", ""
    if spec.get("volumeName"):
        volume, modes = spec["volumeName"], access_modes(status.get("accessModes"))
        capacity = (status.get("capacity") or {}).get("storage", "0")
    return [
        objects.name_of(obj),
        "Terminating" if objects.is_deleting(obj) else status.get("phase", ""),
        volume,
        capacity,
        modes,
        _storage_class(obj, spec),
        _or_unset(spec.get("volumeAttributesClassName")),
        age(obj, now),
        _or_unset(spec.get("volumeMode")),
    ]


def _or_unset(value: str | None) -> str:
    return UNSET if value is None else value


def resource_quota(obj: Object, now: datetime.datetime) -> list[Any]:
    status = obj.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for name in sorted(hard):
        column = limits if name.startswith("limits.") else requests
        column.append(f"{name}: {used.get(name, '0')}/{hard[name]}")
    return [objects.name_of(obj), ", ".join(requests), ", ".join(limits), age(obj, now)]
