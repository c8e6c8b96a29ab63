"""``autoscaling/v1 Scale`` of a custom resource: read from the fields its definition names, written back into them.

Source: apiextensions-apiserver ``pkg/registry/customresource/etcd.go`` (ScaleREST), 1.36.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from anynode.api import errors
from anynode.api.objects import Object, meta
from anynode.schema import scale_ownership
from anynode.schema.field_sets import Node

UNSET = -(1 << 31)
"""Stands for replicas an object does not have, while its Scale is patched."""
_GO_TYPES = {str: "string", bool: "bool", float: "float64", int: "int64", list: "[]interface {}", type(None): "<nil>"}


@dataclasses.dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where a definition says its objects' replicas and label selector are: ``.spec.replicas``."""

    replicas: str
    status_replicas: str
    selector: str = ""

    @property
    def owned(self) -> Node:
        return scale_ownership.path_of(_steps(self.replicas))


def of(obj: Object, paths: ScalePaths) -> Object:
    """The object's Scale. Raises ``ApiError`` where the object has no replicas, or no numbers there."""
    scale, found = _read(obj, paths)
    if not found:
        said = f'Internal error occurred: the spec replicas field "{paths.replicas}" does not exist'
        raise errors.InternalError(said, details={"causes": [{"message": said.partition(": ")[2]}]})
    return scale


def to_change(obj: Object, paths: ScalePaths) -> Object:
    """The object's Scale for who changes it: ``UNSET`` where it has no replicas."""
    scale, found = _read(obj, paths)
    return scale if found else {**scale, "spec": {"replicas": UNSET}}


def applied(obj: Object, scale: Object, paths: ScalePaths) -> Object:
    """``obj`` with the replicas of ``scale``; raises ``BadRequest``."""
    replicas = (scale.get("spec") or {}).get("replicas") or 0
    if replicas == UNSET:
        raise errors.BadRequest(f'the spec replicas field "{paths.replicas}" cannot be empty')
    metadata: Object = dict(meta(obj))
    given = meta(scale)
    metadata["resourceVersion"] = given.get("resourceVersion") or metadata["resourceVersion"]
    if given.get("uid"):
        metadata["uid"] = given["uid"]
    changed: Object = _with({**obj, "metadata": metadata}, _steps(paths.replicas), replicas)
    return changed


def _read(obj: Object, paths: ScalePaths) -> tuple[Object, bool]:
    metadata = meta(obj)
    kept = {
        field: metadata[field]
        for field in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if metadata.get(field)
    }
    replicas = _number(obj, paths.replicas)
    status: Object = {"replicas": _number(obj, paths.status_replicas) or 0}
    if paths.selector:
        selector = _at(obj, paths.selector)
        if selector is not None and not isinstance(selector, str):
            raise _accessor(paths.selector, selector, "string")
        if selector:
            status["selector"] = selector
    spec = {"replicas": replicas} if replicas else {}
    scale = {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept, "spec": spec, "status": status}
    return scale, replicas is not None


def _steps(path: str) -> list[str]:
    return path.removeprefix(".").split(".")


def _at(obj: Object, path: str) -> Any:
    value: Any = obj
    for step in _steps(path):
        if value is None:
            return None
        if not isinstance(value, dict):
            raise _accessor(path, value, "map[string]interface{}")
        value = value.get(step)
    return value


def _number(obj: Object, path: str) -> int | None:
    value = _at(obj, path)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _accessor(path, value, "int64")
    return value


def _accessor(path: str, value: Any, wanted: str) -> errors.ApiError:
    found = _GO_TYPES.get(type(value), "map[string]interface {}")
    shown = "<nil>" if value is None else value
    return errors.ApiError(f"{path} accessor error: {shown} is of the type {found}, expected {wanted}", reason="")


def _with(value: Any, steps: list[str], replicas: int) -> Any:
    if not steps:
        return replicas
    inside = value if isinstance(value, dict) else {}
    return {**inside, steps[0]: _with(inside.get(steps[0]), steps[1:], replicas)}
