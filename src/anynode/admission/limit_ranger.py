"""LimitRanger: containers get the default requests and limits of their namespace; pods and claims keep its bounds.

In: pods at creation and resizing, claims at creation and change. Out: the pod with defaults and an annotation that says
which, or a refusal that names every bound that is broken.
Source: kubernetes ``plugin/pkg/admission/limitranger``, 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from anynode.admission.chain import Attributes, ListIn, Plugin
from anynode.api import objects, pod_amounts, resources
from anynode.api.formats import Quantity
from anynode.api.objects import Object
from anynode.api.pod_amounts import FOR_LIMIT_RANGE, Amounts

ANNOTATION = "kubernetes.io/limit-ranger"
_NOTHING: Amounts = {}


class LimitRanger(Plugin):
    name = "LimitRanger"
    operations = frozenset({"CREATE", "UPDATE"})
    resources = frozenset({"pods", "pods/resize", "persistentvolumeclaims"})

    def __init__(self, list_in: ListIn) -> None:
        self._list_in = list_in
        self._limit_ranges = resources.known("limitranges")

    async def admit(self, attributes: Attributes) -> Object | None:
        pod = attributes.obj
        if pod is None or attributes.resource.plural != "pods":
            return pod
        for limit_range in self._concerning(attributes):
            pod = with_defaults(pod, limit_range)
        return pod

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if obj is None:
            return
        broken = broken_by_pod if attributes.resource.plural == "pods" else broken_by_claim
        for limit_range in self._concerning(attributes):
            found = list(dict.fromkeys(broken(obj, limit_range)))
            if found:
                raise attributes.forbidden(found[0] if len(found) == 1 else f"[{', '.join(found)}]")

    def _concerning(self, attributes: Attributes) -> Iterable[Object]:
        """The limit ranges that bind this write: a pod is bound when it is made and when it is resized."""
        pods = attributes.resource.plural == "pods"
        if pods and attributes.operation == "UPDATE" and attributes.subresource != "resize":
            return ()
        if attributes.old is not None and objects.is_deleting(attributes.old):
            return ()
        return self._list_in(self._limit_ranges, attributes.namespace)


def _limits(limit_range: Object, kind: str) -> Iterator[Object]:
    for limit in objects.get_path(limit_range, "spec", "limits", default=()):
        if limit.get("type") == kind:
            yield limit


def with_defaults(pod: Object, limit_range: Object) -> Object:
    """The pod whose containers ask for what the limit range says where they said nothing; the pod itself otherwise."""
    requests: Object = {}
    limits: Object = {}
    for limit in _limits(limit_range, "Container"):
        requests.update(limit.get("defaultRequest") or {})
        limits.update(limit.get("default") or {})
    if not requests and not limits:
        return pod
    notes: list[str] = []
    spec = dict(pod.get("spec") or {})
    for field, word in (("containers", "container"), ("initContainers", "init container")):
        if spec.get(field):
            spec[field] = [_container_with(each, requests, limits, word, notes) for each in spec[field]]
    if not notes:
        return pod
    annotations = {**objects.annotations_of(pod), ANNOTATION: f"LimitRanger plugin set: {'; '.join(notes)}"}
    return objects.with_meta({**pod, "spec": spec}, annotations=annotations)


def _container_with(container: Object, requests: Object, limits: Object, word: str, notes: list[str]) -> Object:
    own = dict(container.get("resources") or {})
    name = container.get("name", "")
    for field, defaults, said in (("requests", requests, "request"), ("limits", limits, "limit")):
        present = own.get(field) or {}
        missing = {each: amount for each, amount in defaults.items() if each not in present}
        if missing:
            own[field] = {**present, **missing}
            notes.append(f"{', '.join(sorted(missing))} {said} for {word} {name}")
    return {**container, "resources": own}


# --- bounds


def broken_by_claim(claim: Object, limit_range: Object) -> Iterator[str]:
    """Every bound on claims that this one breaks, in a sentence."""
    requests = pod_amounts.parsed(objects.get_path(claim, "spec", "resources", "requests"))
    for limit in _limits(limit_range, "PersistentVolumeClaim"):
        for name, bound in _bounds(limit, "min"):
            yield from _below("PersistentVolumeClaim", name, bound, requests, _NOTHING)
        for name, bound in _bounds(limit, "max"):
            yield from _request_above("PersistentVolumeClaim", name, bound, requests)


def broken_by_pod(pod: Object, limit_range: Object) -> Iterator[str]:
    """Every bound on containers and pods that this pod breaks, in a sentence."""
    spec = pod.get("spec") or {}
    for limit in objects.get_path(limit_range, "spec", "limits", default=()):
        kind = limit.get("type")
        if kind == "Container":
            for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
                own: Mapping[str, Any] = container.get("resources") or {}
                requests, limits = pod_amounts.parsed(own.get("requests")), pod_amounts.parsed(own.get("limits"))
                yield from _broken(kind, limit, requests, limits)
        elif kind == "Pod":
            requests = pod_amounts.pod_amounts(pod, "requests", FOR_LIMIT_RANGE)
            yield from _broken(kind, limit, requests, pod_amounts.pod_amounts(pod, "limits", FOR_LIMIT_RANGE))


def _broken(kind: str, limit: Object, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for name, bound in _bounds(limit, "min"):
        yield from _below(kind, name, bound, requests, limits)
    for name, bound in _bounds(limit, "max"):
        yield from _above(kind, name, bound, requests, limits)
    for name, bound in _bounds(limit, "maxLimitRequestRatio"):
        yield from _out_of_proportion(kind, name, bound, requests, limits)


def _bounds(limit: Object, field: str) -> Sequence[tuple[str, Quantity]]:
    return sorted(pod_amounts.parsed(limit.get(field)).items())


def _below(kind: str, name: str, bound: Quantity, requests: Amounts, limits: Amounts) -> Iterator[str]:
    said = f"minimum {name} usage per {kind} is {bound}"
    request, limit = requests.get(name), limits.get(name)
    if request is None:
        yield f"{said}.  No request is specified"
    elif request.milli_value() < bound.milli_value():
        yield f"{said}, but request is {request}"
    elif limit is not None and limit.milli_value() < bound.milli_value():
        yield f"{said}, but limit is {limit}"


def _above(kind: str, name: str, bound: Quantity, requests: Amounts, limits: Amounts) -> Iterator[str]:
    said = f"maximum {name} usage per {kind} is {bound}"
    request, limit = requests.get(name), limits.get(name)
    if limit is None:
        yield f"{said}.  No limit is specified"
    elif limit.milli_value() > bound.milli_value():
        yield f"{said}, but limit is {limit}"
    elif request is not None and request.milli_value() > bound.milli_value():
        yield f"{said}, but request is {request}"


def _request_above(kind: str, name: str, bound: Quantity, requests: Amounts) -> Iterator[str]:
    said = f"maximum {name} usage per {kind} is {bound}"
    request = requests.get(name)
    if request is None:
        yield f"{said}.  No request is specified"
    elif request.milli_value() > bound.milli_value():
        yield f"{said}, but request is {request}"


def _out_of_proportion(kind: str, name: str, bound: Quantity, requests: Amounts, limits: Amounts) -> Iterator[str]:
    said = f"{name} max limit to request ratio per {kind} is {bound}, but"
    request, limit = requests.get(name), limits.get(name)
    if not request:
        yield f"{said} no request is specified or request is 0"
    elif not limit:
        yield f"{said} no limit is specified or limit is 0"
    elif limit.milli_value() * 1000 > bound.milli_value() * request.milli_value():
        yield f"{said} provided ratio is {limit.milli_value() / request.milli_value():f}"
