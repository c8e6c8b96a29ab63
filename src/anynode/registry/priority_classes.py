"""Priority classes: the system's own stay.

Source: kubernetes ``pkg/registry/scheduling/priorityclass/storage/storage.go``, 1.36.
"""

from __future__ import annotations

from anynode.api import errors
from anynode.api.objects import Object, name_of
from anynode.registry import deletion
from anynode.registry.store import ResourceStore

SYSTEM = frozenset({"system-node-critical", "system-cluster-critical"})


class PriorityClassStore(ResourceStore):
    """Refuses to delete what the system needs."""

    def verdict(self, old: Object, options: deletion.DeleteOptions) -> deletion.Verdict:
        name = name_of(old)
        if name in SYSTEM:
            raise errors.forbidden(self.kind.resource, name, "this is a system priority class and cannot be deleted")
        return super().verdict(old, options)
