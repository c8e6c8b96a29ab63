"""The built-in plugins that need little: namespaces, taints, priorities, tolerations, runtime classes, topology.

``plugins`` gives all of them in upstream's order. Objects go out as copies along the changed path. Source: apiserver
``pkg/admission/plugin/namespace/lifecycle``, kubernetes ``plugin/pkg/admission/{nodetaint,priority,runtimeclass,
defaulttolerationseconds,podtopologylabels}``, 1.36.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from anynode.admission.certificates import CertificateApproval, CertificateSigning, CertificateSubjectRestriction
from anynode.admission.chain import Attributes, ListIn, ListObjects, Lookup, Plugin, ReplaceStatus
from anynode.admission.default_classes import DefaultIngressClass, DefaultStorageClass
from anynode.admission.escalation import RoleEscalation
from anynode.admission.limit_ranger import LimitRanger
from anynode.admission.node_restriction import NodeRestriction
from anynode.admission.pod_security import PodSecurity, PodSecuritySettings
from anynode.admission.resizing import NodeDeclaredFeatureValidator, PersistentVolumeClaimResize, PodResizeValidator
from anynode.admission.resource_quota import ResourceQuota
from anynode.admission.service_account import TOKEN_SOURCES, ServiceAccountPlugin
from anynode.admission.storage_protection import StorageObjectInUseProtection
from anynode.aio.clock import Clock
from anynode.api import errors, formats, objects, resources
from anynode.api.errors import Cause
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import Resource
from anynode.api.wire import User
from anynode.security import rbac
from anynode.security.rbac import Attributes as Asked
from anynode.security.rbac import Policy

IMMORTAL_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})
NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
TOLERATION_SECONDS = 300
TOPOLOGY_LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
PODS = frozenset({"pods"})


def no_objects(_resource: Resource, _namespace: str) -> Iterable[Object]:
    return ()


async def unchanged(_resource: Resource, obj: Object) -> Object:
    return obj


def plugins(
    lookup: Lookup,
    list_objects: ListObjects,
    *,
    list_in: ListIn = no_objects,
    replace_status: ReplaceStatus = unchanged,
    clock: Clock,
    chance: random.Random,
    policy: Policy | None = None,
    token_sources: Sequence[Object] = TOKEN_SOURCES,
    dynamic: Sequence[Plugin] = (),
    pod_security: PodSecuritySettings | None = None,
) -> Sequence[Plugin]:
    """Every built-in plugin, in upstream's order. ``policy``: who holds which rights; without it nobody is held to
    granting only his own. ``token_sources``: what a pod finds beside its token. ``dynamic``: what users configured,
    which comes after all that may change an object here and before quotas are charged."""

    def may(user: User, asked: Asked) -> bool:
        return policy is None or rbac.decide(user, asked, policy).allowed

    return (
        NamespaceLifecycle(lookup),
        LimitRanger(list_in),
        ServiceAccountPlugin(lookup, clock=clock, chance=chance, token_sources=token_sources),
        NodeRestriction(lookup, may),
        TaintNodesByCondition(),
        PodSecurity(lookup, list_in, pod_security),
        Priority(lookup, list_objects),
        DefaultTolerationSeconds(),
        DefaultStorageClass(list_objects),
        StorageObjectInUseProtection(),
        PersistentVolumeClaimResize(lookup),
        RuntimeClass(lookup),
        CertificateApproval(may),
        CertificateSigning(may),
        CertificateSubjectRestriction(),
        DefaultIngressClass(list_objects),
        PodTopologyLabels(lookup),
        NodeDeclaredFeatureValidator(lookup),
        PodResizeValidator(lookup),
        *(() if policy is None else (RoleEscalation(policy),)),
        *dynamic,
        ResourceQuota(lookup, list_objects, list_in, replace_status, clock=clock),
    )


class NamespaceLifecycle(Plugin):
    """Nothing new in a namespace that is missing or going away; some namespaces stay for ever."""

    name = "NamespaceLifecycle"
    operations = frozenset({"CREATE", "UPDATE", "DELETE"})

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._namespaces = resources.known("namespaces")

    async def admit(self, attributes: Attributes) -> Object | None:
        resource, name = attributes.resource, attributes.namespace
        if resource.plural == "namespaces" and not resource.group:
            if attributes.operation == "DELETE" and attributes.name in IMMORTAL_NAMESPACES:
                raise errors.forbidden(resource, attributes.name, "this namespace may not be deleted")
            return attributes.obj
        if not name or attributes.operation == "DELETE" or resource.plural == "localsubjectaccessreviews":
            return attributes.obj
        namespace = self._lookup(self._namespaces, ObjectKey("", name))
        if namespace is None:
            raise errors.not_found(self._namespaces, name)
        if attributes.operation == "CREATE" and objects.get_path(namespace, "status", "phase") == "Terminating":
            cause = Cause(
                reason=errors.NAMESPACE_TERMINATING,
                message=f"namespace {name} is being terminated",
                field="metadata.namespace",
            )
            why = f"unable to create new content in namespace {name} because it is being terminated"
            raise attributes.forbidden(why, [cause])
        return attributes.obj


class TaintNodesByCondition(Plugin):
    """A new node takes no pods until somebody has seen it ready."""

    name = "TaintNodesByCondition"
    operations = frozenset({"CREATE"})
    resources = frozenset({"nodes"})

    async def admit(self, attributes: Attributes) -> Object | None:
        node = attributes.obj
        if node is None:
            return None
        taints = objects.get_path(node, "spec", "taints", default=[])
        if any(each.get("key") == NOT_READY and each.get("effect") == "NoSchedule" for each in taints):
            return node
        return objects.with_path(node, ("spec", "taints"), [*taints, {"key": NOT_READY, "effect": "NoSchedule"}])


class Priority(Plugin):
    """A pod's priority is that of its class; one class at most is everybody's."""

    name = "Priority"
    operations = frozenset({"CREATE", "UPDATE"})
    resources = frozenset({"pods", "priorityclasses.scheduling.k8s.io"})

    def __init__(self, lookup: Lookup, list_objects: ListObjects) -> None:
        self._lookup = lookup
        self._list_objects = list_objects
        self._classes = resources.known("priorityclasses", "scheduling.k8s.io")

    async def admit(self, attributes: Attributes) -> Object | None:
        if attributes.obj is None or attributes.resource.plural != "pods":
            return attributes.obj
        if attributes.operation == "UPDATE":
            return _kept_priority(attributes.obj, attributes.old or {})
        return self._with_priority(attributes, attributes.obj)

    def _with_priority(self, attributes: Attributes, pod: Object) -> Object:
        spec: Object = {**(pod.get("spec") or {})}
        name = spec.get("priorityClassName")
        found = self._lookup(self._classes, ObjectKey("", name)) if name else self._default()
        if found is None and name:
            raise attributes.forbidden(f"no PriorityClass with name {name} was found")
        if found is not None:
            spec["priorityClassName"] = objects.name_of(found)
            priority, policy = found.get("value") or 0, found.get("preemptionPolicy")
        else:
            priority, policy = 0, "PreemptLowerPriority"
        asked, asked_policy = spec.get("priority"), spec.get("preemptionPolicy")
        computed = "must not be provided in pod spec; priority admission controller computed"
        if asked is not None and asked != priority:
            why = f"the integer value of priority ({asked}) {computed} {priority} from the given PriorityClass name"
            raise attributes.forbidden(why)
        spec["priority"] = priority
        if policy is not None:
            if asked_policy is not None and asked_policy != policy:
                said = f"the string value of PreemptionPolicy ({asked_policy})"
                raise attributes.forbidden(f"{said} {computed} {policy} from the given PriorityClass name")
            spec["preemptionPolicy"] = policy
        return {**pod, "spec": spec}

    def _default(self) -> Object | None:
        defaults = [each for each in self._list_objects(self._classes) if each.get("globalDefault")]
        return min(defaults, key=lambda each: each.get("value") or 0, default=None)

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if obj is None or attributes.resource.plural != "priorityclasses" or not obj.get("globalDefault"):
            return
        default = self._default()
        if default is None:
            return
        name = objects.name_of(default)
        if attributes.operation == "CREATE" or name != objects.name_of(obj):
            why = f"PriorityClass {name} is already marked as default. Only one default can exist"
            raise attributes.forbidden(why)


def _kept_priority(pod: Object, old: Object) -> Object:
    """An update that leaves out what admission had set keeps it."""
    spec, old_spec = pod.get("spec") or {}, old.get("spec") or {}
    lost = {
        field: old_spec[field]
        for field in ("priority", "preemptionPolicy")
        if spec.get(field) is None and old_spec.get(field) is not None
    }
    return {**pod, "spec": {**spec, **lost}} if lost else pod


class DefaultTolerationSeconds(Plugin):
    """Pods stay five minutes on a node that is not ready or unreachable, unless they say otherwise."""

    name = "DefaultTolerationSeconds"
    operations = frozenset({"CREATE", "UPDATE"})
    resources = PODS

    async def admit(self, attributes: Attributes) -> Object | None:
        pod = attributes.obj
        if pod is None:
            return None
        tolerations = objects.get_path(pod, "spec", "tolerations", default=[])
        missing = [_toleration(key) for key in (NOT_READY, UNREACHABLE) if not _tolerates(tolerations, key)]
        return objects.with_path(pod, ("spec", "tolerations"), [*tolerations, *missing]) if missing else pod


def _tolerates(tolerations: Sequence[Object], taint: str) -> bool:
    return any(
        each.get("key") in (taint, None, "") and each.get("effect") in ("NoExecute", None, "") for each in tolerations
    )


def _toleration(key: str) -> Object:
    return {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS}


class RuntimeClass(Plugin):
    """A pod's runtime class exists, and gives its overhead and scheduling constraints."""

    name = "RuntimeClass"
    operations = frozenset({"CREATE"})
    resources = PODS

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def admit(self, attributes: Attributes) -> Object | None:
        pod = attributes.obj
        if pod is None:
            return None
        spec = pod.get("spec") or {}
        found = self._class_of(attributes, spec)
        changes = {**_overhead(attributes, spec, found), **_scheduling(attributes, spec, found)}
        return {**pod, "spec": {**spec, **changes}} if changes else pod

    async def validate(self, attributes: Attributes) -> None:
        spec = (attributes.obj or {}).get("spec") or {}
        if spec.get("overhead") is not None and self._class_of(attributes, spec).get("overhead") is None:
            why = "Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise attributes.forbidden(f"pod rejected: {why}")

    def _class_of(self, attributes: Attributes, spec: Object) -> Object:
        name = spec.get("runtimeClassName")
        if name is None:
            return {}
        stored = self._lookup(resources.known("runtimeclasses", "node.k8s.io"), ObjectKey("", name))
        if stored is None:
            raise attributes.forbidden(f'pod rejected: RuntimeClass "{name}" not found')
        return stored


def _overhead(attributes: Attributes, spec: Object, runtime_class: Object) -> Object:
    asked = spec.get("overhead")
    if runtime_class.get("overhead") is None:
        return {}
    fixed = objects.get_path(runtime_class, "overhead", "podFixed", default={})
    if asked and not _same_amounts(asked, fixed):
        raise attributes.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
    return {"overhead": fixed}


def _same_amounts(one: Object, other: Object) -> bool:
    return one.keys() == other.keys() and all(
        formats.Quantity.parse(one[each]) == formats.Quantity.parse(other[each]) for each in one
    )


def _scheduling(attributes: Attributes, spec: Object, runtime_class: Object) -> Object:
    scheduling = runtime_class.get("scheduling")
    if scheduling is None:
        return {}
    selector = {**(spec.get("nodeSelector") or {})}
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if selector.get(key, value) != value:
            wanted = f"runtimeClass.scheduling.nodeSelector[{key}] = {value}"
            raise attributes.forbidden(f"conflict: {wanted}; pod.spec.nodeSelector[{key}] = {selector[key]}")
        selector[key] = value
    tolerations = merged_tolerations([*(spec.get("tolerations") or ()), *(scheduling.get("tolerations") or ())])
    changes = {"nodeSelector": selector, "tolerations": tolerations}
    return {field: value for field, value in changes.items() if value}


def merged_tolerations(tolerations: Sequence[Object]) -> list[Object]:
    """The tolerations without those that another one covers; of equal ones the first stays."""
    merged: list[Object] = []
    for index, each in enumerate(tolerations):
        covered = any(_covers(other, each) for other in merged)
        if not covered and not any(other != each and _covers(other, each) for other in tolerations[index + 1 :]):
            merged.append(each)
    return merged


def _covers(wide: Object, narrow: Object) -> bool:
    """Whether everything ``narrow`` tolerates, ``wide`` tolerates."""
    if wide == narrow:
        return True
    operator = wide.get("operator") or "Equal"
    if narrow.get("key") != wide.get("key") and (wide.get("key") or operator != "Exists"):
        return False
    if wide.get("effect") and narrow.get("effect") != wide["effect"]:
        return False
    seconds, narrow_seconds = wide.get("tolerationSeconds"), narrow.get("tolerationSeconds")
    if (
        wide.get("effect") == "NoExecute"
        and seconds is not None
        and (narrow_seconds is None or narrow_seconds > seconds)
    ):
        return False
    if operator == "Equal":
        return narrow.get("operator") == "Equal" and narrow.get("value") == wide.get("value")
    return operator == "Exists"


class PodTopologyLabels(Plugin):
    """A pod carries the zone and region of its node as labels, from the moment it is bound."""

    name = "PodTopologyLabels"
    operations = frozenset({"CREATE"})
    resources = frozenset({"pods", "pods/binding"})

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def admit(self, attributes: Attributes) -> Object | None:
        obj = attributes.obj
        if obj is None:
            return None
        if not attributes.subresource:
            name = objects.get_path(obj, "spec", "nodeName", default="")
        else:
            target = obj.get("target") or {}
            name = target.get("name", "") if target.get("kind") == "Node" else ""
        node = self._lookup(resources.known("nodes"), ObjectKey("", name)) if name else None
        if node is None:
            return obj
        labels = objects.labels_of(node)
        found = {label: labels[label] for label in TOPOLOGY_LABELS if label in labels}
        return objects.with_meta(obj, labels={**objects.labels_of(obj), **found}) if found else obj
