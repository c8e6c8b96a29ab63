"""Objects as the dicts that were sent, and ways to read and change them without copying the whole.

An ``Object`` is shared as soon as it left the function that made it, and never changes from then on: changing means
copying the path to the change. Source: https://kubernetes.io/docs/reference/using-api/api-concepts/ and
apimachinery ``pkg/apis/meta/v1/types.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NewType, TypeAlias

Object: TypeAlias = dict[str, Any]
"""One Kubernetes object (or part of one) as decoded JSON; treat as immutable once shared."""

Uid = NewType("Uid", str)
ResourceVersion = NewType("ResourceVersion", str)
"""Opaque to clients; the server prints ``Revision`` in decimal."""

NO_META: Object = {}


class ObjectKey(NamedTuple):
    """What names an object among its kind; ``namespace`` is empty for cluster-scoped kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def meta(obj: Mapping[str, Any]) -> Object:
    """``metadata``, or an empty dict."""
    found: Object | None = obj.get("metadata")
    return found if found is not None else NO_META


def name_of(obj: Mapping[str, Any]) -> str:
    return meta(obj).get("name") or ""


def namespace_of(obj: Mapping[str, Any]) -> str:
    return meta(obj).get("namespace") or ""


def key_of(obj: Mapping[str, Any]) -> ObjectKey:
    metadata = meta(obj)
    return ObjectKey(metadata.get("namespace") or "", metadata.get("name") or "")


def uid_of(obj: Mapping[str, Any]) -> Uid:
    return Uid(meta(obj).get("uid") or "")


def resource_version_of(obj: Mapping[str, Any]) -> ResourceVersion:
    return ResourceVersion(meta(obj).get("resourceVersion") or "")


def labels_of(obj: Mapping[str, Any]) -> dict[str, str]:
    return meta(obj).get("labels") or {}


def annotations_of(obj: Mapping[str, Any]) -> dict[str, str]:
    return meta(obj).get("annotations") or {}


def is_deleting(obj: Mapping[str, Any]) -> bool:
    """Whether ``metadata.deletionTimestamp`` is set."""
    return bool(meta(obj).get("deletionTimestamp"))


def get_path(obj: Mapping[str, Any], *path: str, default: Any = None) -> Any:
    """The value at ``path``; ``default`` where a step is missing, null or no dict."""
    value: Any = obj
    for step in path:
        if not isinstance(value, Mapping):
            return default
        value = value.get(step)
        if value is None:
            return default
    return value


def with_path(obj: Object, path: tuple[str, ...], value: Any) -> Object:
    """A copy of ``obj`` in which ``path`` holds ``value``; everything beside the path stays shared."""
    if not path:
        raise ValueError("a path has at least one step")
    head, rest = path[0], path[1:]
    if not rest:
        return {**obj, head: value}
    inner = obj.get(head)
    return {**obj, head: with_path(inner if isinstance(inner, dict) else {}, rest, value)}


def without_path(obj: Object, path: tuple[str, ...]) -> Object:
    """A copy of ``obj`` without ``path``; ``obj`` itself when the path is not there."""
    head, rest = path[0], path[1:]
    if head not in obj:
        return obj
    if not rest:
        return {key: value for key, value in obj.items() if key != head}
    inner = obj[head]
    if not isinstance(inner, dict):
        return obj
    return {**obj, head: without_path(inner, rest)}


def with_meta(obj: Object, **fields: Any) -> Object:
    """A copy of ``obj`` with these ``metadata`` fields set; ``None`` removes a field."""
    metadata = {**meta(obj), **fields}
    return {**obj, "metadata": {key: value for key, value in metadata.items() if value is not None}}


def controller_of(obj: Mapping[str, Any]) -> Object | None:
    """The owner reference with ``controller: true``, if there is one."""
    for reference in meta(obj).get("ownerReferences") or ():
        if reference.get("controller"):
            found: Object = reference
            return found
    return None


def condition_of(obj: Mapping[str, Any], kind: str) -> Object | None:
    """The condition of ``status.conditions`` whose type is ``kind``."""
    return find_condition(get_path(obj, "status", "conditions", default=()), kind)


def find_condition(conditions: Iterable[Object], kind: str) -> Object | None:
    for condition in conditions:
        if condition.get("type") == kind:
            return condition
    return None
