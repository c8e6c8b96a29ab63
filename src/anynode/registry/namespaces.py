"""Namespaces: two finalizer lists, a phase, and a deletion that waits for both to empty.

Source: kubernetes ``pkg/registry/core/namespace/storage/storage.go``, 1.36.
"""

from __future__ import annotations

from anynode.api.objects import Object, get_path, meta
from anynode.registry import deletion
from anynode.registry.store import ResourceStore


class NamespaceStore(ResourceStore):
    """Deleting a namespace marks it Terminating; it goes when ``spec.finalizers`` and its own are empty."""

    def verdict(self, old: Object, options: deletion.DeleteOptions) -> deletion.Verdict:
        if not meta(old).get("deletionTimestamp"):
            finalizers = deletion.after_policy(old, options, self.kind.collection)
            metadata = {
                **meta(old),
                "finalizers": finalizers,
                "deletionTimestamp": deletion.timestamp(self._clock.now()),
            }
            status = {**(old.get("status") or {}), "phase": "Terminating"}
            return deletion.Marked({**old, "metadata": metadata, "status": status}, False)
        if get_path(old, "spec", "finalizers"):
            return deletion.Pending()
        return super().verdict(old, options)

    def may_finish(self, obj: Object) -> bool:
        return not get_path(obj, "spec", "finalizers")
