"""A cluster's objects at one revision, and what of them is compared.

Pure. Objects are kept as they were read; ``comparable`` leaves out what differs without anybody having changed
anything. Secret values are never shown: ``masked`` says only that they differ, as ``kubectl diff`` does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from anynode.api.objects import Object, meta

MASK = "***"
_BOOKKEEPING = frozenset({"managedFields", "resourceVersion", "selfLink"})
_OWN = frozenset({"uid", "creationTimestamp", "generation", "deletionTimestamp"})
"""What no two clusters have in common."""


class ObjectId(NamedTuple):
    """Which object, in any cluster; sorts as it is shown."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """``deployment.apps/web -n default``, as kubectl takes it."""
        kind = f"{self.kind}.{self.group}" if self.group else self.kind
        return f"{kind.lower()}/{self.name}" + (f" -n {self.namespace}" if self.namespace else "")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """All objects of a cluster at ``revision`` (its resource version)."""

    revision: str
    objects: Mapping[ObjectId, Object]


def comparable(obj: Object, *, foreign: bool = False, status: bool = True) -> Object:
    """``obj`` without the server's bookkeeping; ``foreign``: to be compared with an object of another cluster."""
    dropped = _BOOKKEEPING | _OWN if foreign else _BOOKKEEPING
    metadata = {field: value for field, value in meta(obj).items() if field not in dropped}
    owners = metadata.get("ownerReferences")
    if foreign and owners:
        metadata["ownerReferences"] = [{key: each[key] for key in each if key != "uid"} for each in owners]
    kept = {field: value for field, value in obj.items() if field != "status" or status}
    return {**kept, "metadata": metadata}


def masked(before: Object | None, after: Object | None) -> tuple[Object | None, Object | None]:
    """Both states of a Secret with its values hidden; a value that changed is told from one that did not."""
    old, new = _values(before), _values(after)
    changed = {key for key in old.keys() & new.keys() if old[key] != new[key]}

    def hidden(obj: Object | None, word: str) -> Object | None:
        if obj is None:
            return None
        shown = dict(obj)
        for field in ("data", "stringData"):
            if isinstance(obj.get(field), Mapping):
                shown[field] = {key: f"{MASK} ({word})" if key in changed else MASK for key in obj[field]}
        annotations = meta(obj).get("annotations") or {}
        applied = "kubectl.kubernetes.io/last-applied-configuration"
        if applied in annotations:
            shown["metadata"] = {**meta(obj), "annotations": {**annotations, applied: MASK}}
        return shown

    return hidden(before, "before"), hidden(after, "after")


def _values(secret: Object | None) -> Mapping[str, object]:
    data = (secret or {}).get("data")
    return data if isinstance(data, Mapping) else {}
