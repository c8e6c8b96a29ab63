"""What objects weigh against ResourceQuotas: one evaluator per resource, for admission and for the controller.

In: objects, and the names a quota limits. Out: resource name -> ``Quantity``, which names concern a resource, and
whether a quota's scopes select an object. Pure; what lies beside an object comes through ``Neighbours``.
Source: kubernetes ``pkg/quota/v1/evaluator/core`` and ``install``, apiserver ``pkg/quota/v1/generic``, 1.36.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from anynode.api import formats, objects, pod_amounts
from anynode.api.formats import Quantity
from anynode.api.objects import Object
from anynode.api.pod_amounts import FOR_QUOTA, Amounts

ONE = Quantity.parse("1")
ZERO = Quantity(0)
IGNORED = frozenset({
    "bindings", "componentstatuses", "tokenreviews.authentication.k8s.io", "selfsubjectreviews.authentication.k8s.io",
    "subjectaccessreviews.authorization.k8s.io", "selfsubjectaccessreviews.authorization.k8s.io",
    "localsubjectaccessreviews.authorization.k8s.io", "selfsubjectrulesreviews.authorization.k8s.io", "events",
    "events.events.k8s.io",
})  # fmt: skip
"""What no quota counts, qualified."""
_ALIASES = ("configmaps", "resourcequotas", "replicationcontrollers", "secrets")
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_POD_NAMES = frozenset({
    "count/pods", "pods", *_COMPUTE, *(f"{side}.{each}" for side in ("requests", "limits") for each in _COMPUTE),
})  # fmt: skip
_MANDATORY = ("cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory")
_STORAGE_CLASS = ".storageclass.storage.k8s.io/"
_CLAIM_NAMES = ("persistentvolumeclaims", "requests.storage")
_DEVICES = ".deviceclass.resource.k8s.io/devices"
_IMPLICIT_DEVICE = "deviceclass.resource.kubernetes.io/"
_MOST_DEVICES = 32
_EXTENDED_CLAIM = "resource.kubernetes.io/extended-resource-claim"


def evaluator_of(qualified: str, neighbours: Neighbours) -> Evaluator:
    """What weighs the objects of a resource named as ``pods`` or ``deployments.apps``."""
    if qualified == "pods":
        return PodEvaluator(neighbours)
    if qualified == "services":
        return ServiceEvaluator(qualified)
    if qualified == "persistentvolumeclaims":
        return ClaimEvaluator(qualified)
    if qualified == "resourceclaims.resource.k8s.io":
        return DeviceClaimEvaluator(neighbours)
    return Evaluator(qualified)


class Neighbours(Protocol):
    """What an object's weight may depend on beside it."""

    def now(self) -> datetime.datetime: ...

    def device_classes(self) -> Iterable[Object]: ...

    def pod(self, namespace: str, name: str) -> Object | None: ...

    def device_claims(self, namespace: str) -> Iterable[Object]: ...


class Evaluator:
    """Counts objects, which is all that most resources are weighed by."""

    def __init__(self, qualified: str) -> None:
        self.qualified = qualified
        self.count = f"count/{qualified}"
        self._names = frozenset({self.count, qualified} if qualified in _ALIASES else {self.count})

    def handles(self, operation: str, subresource: str, new: Object, old: Object | None) -> bool:
        """Whether such a write may change what is used."""
        return not subresource and operation == "CREATE"

    def concerned(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` this resource weighs on."""
        return [name for name in names if name in self._names]

    def in_scope(self, requirement: Object, obj: Object) -> bool:
        """Whether one scope requirement of a quota selects the object."""
        return False

    def missing(self, names: Iterable[str], obj: Object) -> str:
        """What the object must say because a quota limits ``names``; empty when it does."""
        return ""

    def usage(self, obj: Object) -> Amounts:
        return dict.fromkeys(self._names, ONE)

    def matches(self, quota: Object, obj: Object) -> bool:
        """Whether the quota counts the object, by what its status says it limits."""
        hard = objects.get_path(quota, "status", "hard", default={})
        return bool(self.concerned(hard)) and all(self.in_scope(each, obj) for each in scopes_of(quota))

    def frees(self, new: Object, old: Object) -> bool:
        """Whether this change of an object may have freed some of a quota, so that it is to be counted anew."""
        return False


def scopes_of(quota: Object) -> Iterator[Object]:
    """The quota's scopes, all as requirements."""
    spec = quota.get("spec") or {}
    for scope in spec.get("scopes") or ():
        yield {"scopeName": scope, "operator": "Exists"}
    yield from (spec.get("scopeSelector") or {}).get("matchExpressions") or ()


def _selected(requirement: Object, value: str) -> bool:
    """Whether a value, empty for none, is among those the requirement names."""
    operator, values = requirement.get("operator"), requirement.get("values") or ()
    if operator == "In":
        return value in values and bool(value)
    if operator == "NotIn":
        return value not in values or not value
    return bool(value) if operator == "Exists" else not value


# --- pods


class PodEvaluator(Evaluator):
    def __init__(self, neighbours: Neighbours) -> None:
        super().__init__("pods")
        self._neighbours = neighbours

    def handles(self, operation: str, subresource: str, new: Object, old: Object | None) -> bool:
        if subresource:
            return subresource == "resize" and operation == "UPDATE"
        return operation == "CREATE" or (old is not None and is_terminating(old) != is_terminating(new))

    def concerned(self, names: Iterable[str]) -> list[str]:
        return [
            name
            for name in names
            if name in _POD_NAMES or name.startswith(("hugepages-", "requests.hugepages-")) or _is_extended_quota(name)
        ]

    def in_scope(self, requirement: Object, obj: Object) -> bool:
        scope, spec = requirement.get("scopeName"), obj.get("spec") or {}
        if scope in ("Terminating", "NotTerminating"):
            return is_terminating(obj) is (scope == "Terminating")
        if scope in ("BestEffort", "NotBestEffort"):
            return is_best_effort(obj) is (scope == "BestEffort")
        if scope == "PriorityClass":
            return _selected(requirement, spec.get("priorityClassName") or "")
        return scope == "CrossNamespacePodAffinity" and _reaches_other_namespaces(spec.get("affinity") or {})

    def missing(self, names: Iterable[str], obj: Object) -> str:
        spec = obj.get("spec") or {}
        wanted = [name for name in _MANDATORY if name in set(names)]
        if not wanted or pod_amounts.has_pod_level(spec):
            return ""
        lacking: dict[str, set[str]] = {}
        for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
            own: Mapping[str, Any] = container.get("resources") or {}
            said = _compute(pod_amounts.parsed(own.get("requests")), pod_amounts.parsed(own.get("limits")))
            for name in wanted:
                if name not in said:
                    lacking.setdefault(name, set()).add(container.get("name", ""))
        parts = [f"{name} for: {','.join(sorted(lacking[name]))}" for name in sorted(lacking)]
        return f"must specify {'; '.join(parts)}" if parts else ""

    def usage(self, obj: Object) -> Amounts:
        if not self._is_charged(obj):
            return {"count/pods": ONE}
        requests = pod_amounts.pod_amounts(obj, "requests", FOR_QUOTA)
        return {"count/pods": ONE, **_compute(requests, pod_amounts.pod_amounts(obj, "limits", FOR_QUOTA))}

    def _is_charged(self, pod: Object) -> bool:
        """Whether the pod weighs more than its place in storage: neither over nor long overdue to go."""
        if objects.get_path(pod, "status", "phase") in ("Failed", "Succeeded"):
            return False
        metadata = objects.meta(pod)
        deleted, grace = metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
        if deleted is None or grace is None:
            return True
        return self._neighbours.now() <= formats.parse_time(deleted) + datetime.timedelta(seconds=grace)

    def frees(self, new: Object, old: Object) -> bool:
        if _given(new) != _given(old) or is_terminating(new) != is_terminating(old):
            return True
        return self._is_charged(old) and not self._is_charged(new)


def _given(pod: Object) -> Sequence[tuple[str, Any]]:
    status = pod.get("status") or {}
    return [
        (each.get("name", ""), each.get("resources"))
        for field in ("containerStatuses", "initContainerStatuses")
        for each in status.get(field) or ()
    ]


def _compute(requests: Mapping[str, Quantity], limits: Mapping[str, Quantity]) -> Amounts:
    found: Amounts = {"pods": ONE}
    for name in _COMPUTE:
        if name in requests:
            found[name] = found[f"requests.{name}"] = requests[name]
        if name in limits:
            found[f"limits.{name}"] = limits[name]
    for name, amount in requests.items():
        if name.startswith("hugepages-"):
            found[name] = found[f"requests.{name}"] = amount
        elif name.startswith(_IMPLICIT_DEVICE) or not _is_native(name):
            found[f"requests.{name}"] = amount
    return found


def _is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def _is_extended_quota(name: str) -> bool:
    return name.startswith("requests.") and (not _is_native(name) or name.startswith(f"requests.{_IMPLICIT_DEVICE}"))


def is_terminating(pod: Object) -> bool:
    """Whether the pod says how long it may be active."""
    seconds = objects.get_path(pod, "spec", "activeDeadlineSeconds")
    return bool(seconds is not None and seconds >= 0)


def is_best_effort(pod: Object) -> bool:
    """Whether neither the pod nor a container asks for cpu or memory or limits them."""
    said = objects.get_path(pod, "status", "qosClass")
    if said:
        return bool(said == "BestEffort")
    spec = pod.get("spec") or {}
    owners = [spec] if spec.get("resources") is not None else spec.get("containers") or ()
    if spec.get("resources") is None:
        owners = [*owners, *(spec.get("initContainers") or ())]
    return not any(
        Quantity.parse(amount).nano > 0
        for owner in owners
        for side in ("requests", "limits")
        for name, amount in ((owner.get("resources") or {}).get(side) or {}).items()
        if name in ("cpu", "memory")
    )


def _reaches_other_namespaces(affinity: Object) -> bool:
    for field in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(field) or {}
        terms = [
            *(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ()),
            *(
                each.get("podAffinityTerm") or {}
                for each in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
            ),
        ]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False


# --- services and claims


class ServiceEvaluator(Evaluator):
    def handles(self, operation: str, subresource: str, new: Object, old: Object | None) -> bool:
        return not subresource

    def concerned(self, names: Iterable[str]) -> list[str]:
        mine = (self.count, "services", "services.nodeports", "services.loadbalancers")
        return [name for name in names if name in mine]

    def usage(self, obj: Object) -> Amounts:
        spec = obj.get("spec") or {}
        kind, ports = spec.get("type"), spec.get("ports") or ()
        node_ports = len(ports) if kind in ("NodePort", "LoadBalancer") else 0
        if kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
            node_ports = sum(1 for each in ports if each.get("nodePort"))
        return {
            self.count: ONE,
            "services": ONE,
            "services.loadbalancers": ONE if kind == "LoadBalancer" else ZERO,
            "services.nodeports": Quantity.parse(node_ports),
        }

    def frees(self, new: Object, old: Object) -> bool:
        return _charged_type(new) != _charged_type(old)


def _charged_type(service: Object) -> str:
    kind = objects.get_path(service, "spec", "type", default="")
    return kind if kind in ("NodePort", "LoadBalancer") else ""


class ClaimEvaluator(Evaluator):
    """PersistentVolumeClaims, by their storage class too."""

    def handles(self, operation: str, subresource: str, new: Object, old: Object | None) -> bool:
        if subresource == "status":
            return old is not None and self.frees(new, old)
        return not subresource

    def concerned(self, names: Iterable[str]) -> list[str]:
        by_class = tuple(_STORAGE_CLASS + name for name in _CLAIM_NAMES)
        return [name for name in names if name == self.count or name in _CLAIM_NAMES or name.endswith(by_class)]

    def in_scope(self, requirement: Object, obj: Object) -> bool:
        if requirement.get("scopeName") != "VolumeAttributesClass":
            return False
        return any(_selected(requirement, name) for name in _attribute_classes(obj) or {""})

    def usage(self, obj: Object) -> Amounts:
        found = {"persistentvolumeclaims": ONE, self.count: ONE}
        annotated = objects.annotations_of(obj).get("volume.beta.kubernetes.io/storage-class")
        name = annotated if annotated is not None else objects.get_path(obj, "spec", "storageClassName", default="")
        if name:
            found[f"{name}{_STORAGE_CLASS}persistentvolumeclaims"] = ONE
        asked = objects.get_path(obj, "spec", "resources", "requests", "storage")
        if asked is None:
            return found
        amount = Quantity.parse(asked).rounded_up(0)
        allocated = objects.get_path(obj, "status", "allocatedResources", "storage")
        if allocated is not None and amount < Quantity.parse(allocated):
            amount = Quantity.parse(allocated).rounded_up(0)
        found["requests.storage"] = amount
        if name:
            found[f"{name}{_STORAGE_CLASS}requests.storage"] = amount
        return found

    def frees(self, new: Object, old: Object) -> bool:
        path = ("status", "allocatedResources", "storage")
        before, after = objects.get_path(old, *path), objects.get_path(new, *path)
        return before != after or _attribute_classes(old) != _attribute_classes(new)


def _attribute_classes(claim: Object) -> set[str]:
    names = (
        objects.get_path(claim, "spec", "volumeAttributesClassName"),
        objects.get_path(claim, "status", "currentVolumeAttributesClassName"),
        objects.get_path(claim, "status", "modifyVolumeStatus", "targetVolumeAttributesClassName"),
    )
    return {name for name in names if name}


class DeviceClaimEvaluator(Evaluator):
    """ResourceClaims, by device class and by the extended resources these classes stand for."""

    def __init__(self, neighbours: Neighbours) -> None:
        super().__init__("resourceclaims.resource.k8s.io")
        self._neighbours = neighbours

    def handles(self, operation: str, subresource: str, new: Object, old: Object | None) -> bool:
        return not subresource

    def concerned(self, names: Iterable[str]) -> list[str]:
        return [
            name
            for name in names
            if name == self.count
            or name.endswith(_DEVICES)
            or (name.startswith("requests.") and name.removeprefix("requests.") in self._extended())
        ]

    def _extended(self) -> dict[str, str]:
        """Extended resource -> device class, implicit names included."""
        found: dict[str, str] = {}
        for each in sorted(self._neighbours.device_classes(), key=_age):
            resource = objects.get_path(each, "spec", "extendedResourceName")
            if resource:
                found[resource] = objects.name_of(each)
                found[_IMPLICIT_DEVICE + objects.name_of(each)] = objects.name_of(each)
        return found

    def usage(self, obj: Object) -> Amounts:
        found: Amounts = {self.count: ONE}
        for request in objects.get_path(obj, "spec", "devices", "requests", default=()):
            exactly = request.get("exactly")
            choices = request.get("firstAvailable") or ([exactly] if exactly is not None else [])
            most: Amounts = {}
            for choice in choices:
                pod_amounts.raise_to(most, {f"{choice.get('deviceClassName', '')}{_DEVICES}": _devices(choice)})
            pod_amounts.add(found, most)
        self._add_extended(found, obj)
        return found

    def _add_extended(self, found: Amounts, claim: Object) -> None:
        by_class = {name.removesuffix(_DEVICES): amount for name, amount in found.items() if name.endswith(_DEVICES)}
        charged: Amounts | None = None
        for name, amount in by_class.items():
            for resource in self._names_of(name):
                if charged is None:
                    charged = self._charged_to_pod(claim)
                left = amount - charged.get(resource, ZERO)
                if left.nano > 0:
                    found[resource] = left

    def _names_of(self, device_class: str) -> Iterator[str]:
        if not device_class:
            return
        yield f"requests.{_IMPLICIT_DEVICE}{device_class}"
        for each in self._neighbours.device_classes():
            resource = objects.get_path(each, "spec", "extendedResourceName")
            if resource and objects.name_of(each) == device_class:
                yield f"requests.{resource}"

    def _charged_to_pod(self, claim: Object) -> Amounts:
        """What the pod that this claim was made for is charged already."""
        owner = objects.controller_of(claim)
        if objects.annotations_of(claim).get(_EXTENDED_CLAIM) != "true" or owner is None:
            return {}
        if owner.get("kind") != "Pod" or owner.get("apiVersion") != "v1":
            return {}
        namespace = objects.namespace_of(claim)
        pod = self._neighbours.pod(namespace, owner.get("name", ""))
        if pod is None or objects.uid_of(pod) != owner.get("uid"):
            return {}
        status = objects.get_path(pod, "status", "extendedResourceClaimStatus")
        if status is not None and status.get("resourceClaimName") != objects.name_of(claim):
            return {}
        if status is None and not self._is_first_of(claim, owner):
            return {}
        return PodEvaluator(self._neighbours).usage(pod)

    def _is_first_of(self, claim: Object, owner: Object) -> bool:
        for other in self._neighbours.device_claims(objects.namespace_of(claim)):
            same = (objects.controller_of(other) or {}).get("uid") == owner.get("uid")
            earlier = (_created(other), objects.name_of(other)) < (_created(claim), objects.name_of(claim))
            if same and earlier and objects.annotations_of(other).get(_EXTENDED_CLAIM) == "true":
                return False
        return True


def _devices(request: Object) -> Quantity:
    mode = request.get("allocationMode") or "ExactCount"
    if mode == "ExactCount":
        return Quantity.parse(request.get("count") or 0)
    return Quantity.parse(_MOST_DEVICES) if mode == "All" else ZERO


def _created(obj: Object) -> str:
    return str(objects.meta(obj).get("creationTimestamp") or "")


def _age(device_class: Object) -> tuple[str, tuple[int, ...]]:
    """Of classes that stand for the same resource the newest counts, of equal ones the first by name."""
    return _created(device_class), tuple(-ord(letter) for letter in objects.name_of(device_class))


# --- sums


def calculated(quota: Object, evaluators: Iterable[tuple[Evaluator, Iterable[Object]]]) -> Amounts:
    """What the objects of a namespace use of what the quota limits; names nobody weighs are left out."""
    hard = list(objects.get_path(quota, "spec", "hard", default={}))
    scopes = list(scopes_of(quota))
    found: Amounts = {}
    matched: set[str] = set()
    for evaluator, members in evaluators:
        concerned = evaluator.concerned(hard)
        if not concerned:
            continue
        matched.update(concerned)
        pod_amounts.add(found, dict.fromkeys(concerned, ZERO))
        for obj in members:
            if all(evaluator.in_scope(each, obj) for each in scopes):
                pod_amounts.add(found, evaluator.usage(obj))
    return {name: amount for name, amount in found.items() if name in matched}
