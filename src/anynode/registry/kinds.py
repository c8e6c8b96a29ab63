"""What the registry knows of each stored kind beside its schema rules: where it lies and how it is deleted.

A ``Kind`` is one stored resource; a ``View`` is a served resource and the kind that keeps its objects (events of both
groups and both versions of autoscalers are one kind each). Source: kubernetes ``pkg/registry/<group>/<kind>/storage``
and ``strategy.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from anynode.api.objects import Object, get_path
from anynode.api.resources import Resource
from anynode.registry.conversion import CONVERSIONS, Conversion
from anynode.registry.deletion import Collection, GraceOf
from anynode.registry.encoding import head_of
from anynode.registry.items import Fields
from anynode.schema.fields import FieldError
from anynode.schema.kinds import strategy
from anynode.schema.metadata import path_segment_name
from anynode.schema.rules import KindRules, keep_new

RulesOf = Callable[[str, str], KindRules]

STORED_AS: Mapping[tuple[str, str, str], tuple[str, str, str]] = {
    ("events.k8s.io", "v1", "events"): ("", "v1", "events"),
    ("autoscaling", "v1", "horizontalpodautoscalers"): ("autoscaling", "v2", "horizontalpodautoscalers"),
}
_RETURNS_DELETED = frozenset({
    "namespaces", "persistentvolumes", "persistentvolumeclaims", "pods", "podtemplates", "resourcequotas", "services",
    "serviceaccounts", "deviceclasses.resource.k8s.io", "resourceclaims.resource.k8s.io",
    "resourceclaimtemplates.resource.k8s.io", "resourceslices.resource.k8s.io", "csidrivers.storage.k8s.io",
    "csinodes.storage.k8s.io", "storageclasses.storage.k8s.io", "volumeattachments.storage.k8s.io",
    "volumeattributesclasses.storage.k8s.io",
})  # fmt: skip
_COLLECTION: Mapping[str, Collection] = {
    "events": "unsupported",
    "jobs.batch": "orphan",
    "replicationcontrollers": "orphan",
}
_PATHS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "pods": {"status.podIP": ("status", "podIP"), "spec.hostNetwork": ("spec", "hostNetwork")},
    "jobs.batch": {"status.successful": ("status", "succeeded")},
    "events": {"reportingComponent": ("reportingComponent",), "source": ("source", "component")},
}
_SERVED_LABELS: Mapping[str, str] = {
    "reportingController": "reportingComponent",
    **{
        f"regarding.{field}": f"involvedObject.{field}"
        for field in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    },
}
"""Field labels of events.k8s.io as the core group names them."""
_NUMBERS = frozenset({"status.replicas", "status.successful"})
_BOOLEANS = frozenset({"spec.unschedulable", "spec.hostNetwork"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One stored resource."""

    resource: Resource
    rules: KindRules
    prefix: str
    head: bytes
    read_fields: Fields
    indexed_field: str = ""
    collection: Collection = "dependents"
    grace_of: GraceOf | None = None
    returns_deleted: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One served resource. ``conversion`` None: objects are served as they are stored. ``rules`` judge objects in the
    shape they are served in, where that is stricter than what is stored."""

    resource: Resource
    kind: Kind
    conversion: Conversion | None = None
    rules: KindRules | None = None
    field_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What field selectors may ask for, by the names of the served resource -> the names ``kind`` reads them under."""

    def judged(self, new: Object, old: Object | None) -> Sequence[FieldError]:
        """What is wrong with a new object, or with a change of ``old``, in the words of the served resource."""
        assert self.rules is not None
        assert self.conversion is not None
        after = self.conversion.to_served(new)
        if old is None:
            return self.rules.validate(after)
        return self.rules.validate_update(after, self.conversion.to_served(old))


def pod_grace(pod: Object, asked_seconds: int | None) -> int:
    """The grace a pod's deletion gets: none when it never ran or is over."""
    spec = pod.get("spec") or {}
    if not spec.get("nodeName") or get_path(pod, "status", "phase") in ("Failed", "Succeeded"):
        return 0
    seconds = asked_seconds if asked_seconds is not None else spec.get("terminationGracePeriodSeconds") or 0
    return 1 if seconds < 0 else int(seconds)


def prefix_of(resource: Resource) -> str:
    if resource.group:
        return f"/registry/{resource.group}/{resource.plural}/"
    return f"/registry/{resource.plural}/"


def kind_of(resource: Resource, rules: KindRules) -> Kind:
    if resource.group == "rbac.authorization.k8s.io" and rules.valid_name is None:
        rules = dataclasses.replace(rules, valid_name=path_segment_name)
    if resource.subresource("status") is not None and rules.prepare_status is keep_new:
        rules = with_status_apart(rules)
    if resource.plural in ("endpoints", "endpointslices"):
        rules = with_loopback(rules)
    read = fields_reader(resource, rules)
    return Kind(
        resource=resource,
        rules=rules,
        prefix=prefix_of(resource),
        head=head_of(resource),
        read_fields=event_fields(read) if resource.qualified == "events" else read,
        indexed_field="spec.nodeName" if resource.qualified == "pods" else "",
        collection=_COLLECTION.get(resource.qualified, "dependents"),
        grace_of=pod_grace if resource.qualified == "pods" else None,
        returns_deleted=resource.qualified in _RETURNS_DELETED,
    )


def with_status_apart(rules: KindRules) -> KindRules:
    """``rules`` of a kind that has none of its own, its status written by ``/status`` alone."""
    return dataclasses.replace(
        rules,
        prepare_create=strategy.created(status={}, generation=False),
        prepare_update=strategy.updated(counted=()),
        prepare_status=strategy.status_only(),
    )


def with_loopback(rules: KindRules) -> KindRules:
    """``rules`` that take endpoints in 127/8 but 127.0/16: upstream refuses all, here pods have such addresses."""

    def kept(found: Sequence[FieldError]) -> Sequence[FieldError]:
        return [error for error in found if not _is_pod_loopback(error)]

    return dataclasses.replace(
        rules,
        validate=lambda obj: kept(rules.validate(obj)),
        validate_update=lambda new, old: kept(rules.validate_update(new, old)),
    )


def _is_pod_loopback(error: FieldError) -> bool:
    message = error.message
    return "loopback range" in message and '"127.' in message and '"127.0.' not in message


def views_of(resources: Iterable[Resource], rules_of: RulesOf) -> Mapping[tuple[str, str, str], View]:
    """(group, version, plural) -> view, for resources that are stored."""
    served = {(each.group, each.version, each.plural): each for each in resources}
    kinds = {
        slot: kind_of(each, rules_of(each.group, each.kind)) for slot, each in served.items() if slot not in STORED_AS
    }

    def view(slot: tuple[str, str, str], each: Resource) -> View:
        kind, rules = kinds[STORED_AS.get(slot, slot)], rules_of(each.group, each.kind)
        conversion = CONVERSIONS.get(slot)
        own = None if conversion is None or rules is kind.rules else rules
        labels = {label: _SERVED_LABELS.get(label, label) for label in rules.field_labels}
        return View(resource=each, kind=kind, conversion=conversion, rules=own, field_labels=labels)

    return {slot: view(slot, each) for slot, each in served.items()}


def fields_reader(resource: Resource, rules: KindRules) -> Fields:
    """A function from an object to its field-selector values."""
    special = _PATHS.get(resource.qualified, {})
    paths = [
        (label, special.get(label) or tuple(label.split(".")))
        for label in rules.field_labels
        if label not in ("metadata.name", "metadata.namespace")
    ]

    def read(obj: Object) -> Mapping[str, str]:
        return {label: _text(label, get_path(obj, *path)) for label, path in paths}

    return read


def event_fields(read: Fields) -> Fields:
    """As ``read``, but the source of an event written through the newer group is its reporting controller."""

    def read_event(obj: Object) -> Mapping[str, str]:
        found = read(obj)
        return found if found["source"] else {**found, "source": found["reportingComponent"]}

    return read_event


def _text(label: str, value: Any) -> str:
    """A field's value as selectors compare it."""
    if label in _BOOLEANS:
        return "true" if value else "false"
    if value is None:
        return "0" if label in _NUMBERS else ""
    return str(value)
