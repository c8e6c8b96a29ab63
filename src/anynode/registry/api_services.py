"""APIServices: who serves a group and version. Pure: the ones of this server itself, their order, their conditions.

Source: kubernetes ``pkg/controlplane/apiserver/aggregator.go``, ``cmd/kube-apiserver/app/aggregator.go``,
kube-aggregator ``pkg/apis/apiregistration/v1/helper`` and ``pkg/controllers/autoregister``, 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from anynode.api.objects import Object, get_path, labels_of
from anynode.api.resources import GroupVersion
from anynode.registry.definitions import version_rank

GROUP = "apiregistration.k8s.io"
MANAGED = "kube-aggregator.kubernetes.io/automanaged"
ON_START, ALWAYS = "onstart", "true"
AVAILABLE = "Available"


class Priority(NamedTuple):
    """How much a group counts, and a version within it."""

    group: int
    version: int


CUSTOM = Priority(1000, 100)
_HIGHEST = Priority(1 << 30, 1)
"""This API's own group stands before all others."""
_PRIORITIES: Mapping[str, Priority] = {
    "v1": Priority(18000, 1),
    "apiregistration.k8s.io/v1": _HIGHEST,
    "apps/v1": Priority(17800, 15),
    "events.k8s.io/v1": Priority(17750, 15),
    "authentication.k8s.io/v1": Priority(17700, 15),
    "authorization.k8s.io/v1": Priority(17600, 15),
    "autoscaling/v1": Priority(17500, 15),
    "autoscaling/v2": Priority(17500, 30),
    "batch/v1": Priority(17400, 15),
    "certificates.k8s.io/v1": Priority(17300, 15),
    "networking.k8s.io/v1": Priority(17200, 15),
    "policy/v1": Priority(17100, 15),
    "rbac.authorization.k8s.io/v1": Priority(17000, 15),
    "storage.k8s.io/v1": Priority(16800, 15),
    "apiextensions.k8s.io/v1": Priority(16700, 15),
    "admissionregistration.k8s.io/v1": Priority(16700, 15),
    "scheduling.k8s.io/v1": Priority(16600, 15),
    "coordination.k8s.io/v1": Priority(16500, 15),
    "node.k8s.io/v1": Priority(16300, 15),
    "discovery.k8s.io/v1": Priority(16200, 15),
    "resource.k8s.io/v1": Priority(16200, 21),
    "flowcontrol.apiserver.k8s.io/v1": Priority(16100, 21),
}


def priority_of(group_version: GroupVersion) -> Priority:
    """A built-in group version's; any other is a custom resource's."""
    return _PRIORITIES.get(str(group_version), CUSTOM)


def name_of(group_version: GroupVersion) -> str:
    return f"{group_version.version}.{group_version.group}"


def local(group_version: GroupVersion, managed: str) -> Object:
    """The APIService of what this server itself serves."""
    priority = priority_of(group_version)
    spec: Object = {"version": group_version.version}
    if group_version.group:
        spec["group"] = group_version.group
    spec |= {"groupPriorityMinimum": priority.group, "versionPriority": priority.version}
    return {
        "kind": "APIService",
        "apiVersion": f"{GROUP}/v1",
        "metadata": {"name": name_of(group_version), "labels": {MANAGED: managed}},
        "spec": spec,
    }


def restored(stored: Object, wanted: Object) -> Object:
    """A managed APIService as it has to be; the same object where it is."""
    label = wanted["metadata"]["labels"][MANAGED]
    if stored.get("spec") == wanted["spec"] and labels_of(stored).get(MANAGED) == label:
        return stored
    metadata = {**stored["metadata"], "labels": {**labels_of(stored), MANAGED: label}}
    return {**stored, "metadata": metadata, "spec": wanted["spec"]}


def group_version_of(service: Object) -> GroupVersion:
    spec = service.get("spec") or {}
    return GroupVersion(spec.get("group") or "", spec.get("version") or "")


def priority_said(service: Object) -> Priority:
    spec = service.get("spec") or {}
    return Priority(int(spec.get("groupPriorityMinimum") or 0), int(spec.get("versionPriority") or 0))


def version_order(version: str, priority: Priority) -> tuple[Any, ...]:
    """Sorts a group's versions, the preferred one first."""
    return (-priority.version, version_rank(version))


def is_local(service: Object) -> bool:
    return get_path(service, "spec", "service") is None


def condition(service: Object) -> Object | None:
    conditions = get_path(service, "status", "conditions") or ()
    return next((each for each in conditions if each.get("type") == AVAILABLE), None)


def is_available(service: Object) -> bool:
    found = condition(service)
    return found is not None and found.get("status") == "True"


def with_availability(service: Object, status: str, reason: str, message: str, now: str) -> Object:
    """The APIService saying whether its server can be reached; the same object where it says so already."""
    old = condition(service)
    if old is not None and (old.get("status"), old.get("reason"), old.get("message")) == (status, reason, message):
        return service
    time = old["lastTransitionTime"] if old is not None and old.get("status") == status else now
    said = {"type": AVAILABLE, "status": status, "lastTransitionTime": time, "reason": reason, "message": message}
    others = [each for each in get_path(service, "status", "conditions") or () if each.get("type") != AVAILABLE]
    return {**service, "status": {**(service.get("status") or {}), "conditions": [*others, said]}}
