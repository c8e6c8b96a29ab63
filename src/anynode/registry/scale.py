"""``autoscaling/v1 Scale`` of the kinds that have replicas: read from an object, written back into it.

Source: kubernetes ``pkg/registry/apps/deployment/storage/storage.go`` (ScaleREST), 1.36.
"""

from __future__ import annotations

from anynode.api import errors, selectors
from anynode.api.objects import Object, get_path, meta
from anynode.api.resources import Resource
from anynode.schema import fields


def of(obj: Object) -> Object:
    """The object's Scale."""
    metadata = meta(obj)
    kept = {
        field: metadata[field]
        for field in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if metadata.get(field)
    }
    spec: Object = {}
    replicas = get_path(obj, "spec", "replicas", default=0)
    if replicas:
        spec["replicas"] = replicas
    status: Object = {"replicas": get_path(obj, "status", "replicas", default=0)}
    selector = _selector(obj)
    if selector:
        status["selector"] = selector
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept, "spec": spec, "status": status}


def _selector(obj: Object) -> str:
    selector = get_path(obj, "spec", "selector")
    if not selector:
        return ""
    if obj.get("kind") == "ReplicationController":
        return str(selectors.of_labels(selector))
    return str(selectors.of_label_selector(selector))


def applied(obj: Object | None, scale: Object, resource: Resource) -> Object:
    """``obj`` with the replicas of ``scale``; raises ``Invalid`` or ``Conflict``."""
    name = str(meta(scale).get("name") or "")
    if obj is None:
        raise errors.not_found(resource, name)
    replicas = get_path(scale, "spec", "replicas", default=0)
    if replicas < 0:
        found = fields.invalid(fields.FieldPath("spec.replicas"), replicas, "must be greater than or equal to 0")
        raise errors.invalid("Scale", "autoscaling", name, [found.cause()])
    metadata: Object = dict(meta(obj))
    given = meta(scale)
    metadata["resourceVersion"] = given.get("resourceVersion") or metadata["resourceVersion"]
    if given.get("uid"):
        metadata["uid"] = given["uid"]
    return {**obj, "metadata": metadata, "spec": {**obj["spec"], "replicas": replicas}}
