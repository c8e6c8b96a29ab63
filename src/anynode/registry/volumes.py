"""Persistent volumes: the time of the last change of phase is the server's to write.

Source: kubernetes ``pkg/registry/core/persistentvolume/strategy.go``, 1.36.
"""

from __future__ import annotations

from anynode.api.objects import Object
from anynode.registry import deletion
from anynode.registry.store import ResourceStore, Write


class VolumeStore(ResourceStore):
    """Notes when a volume's phase changes, unless the client says a time of its own."""

    def on_update(self, new: Object, old: Object, write: Write) -> Object:
        after, before = new.get("status") or {}, old.get("status") or {}
        said = after.get("lastPhaseTransitionTime")
        if after.get("phase") == before.get("phase") or (said and said != before.get("lastPhaseTransitionTime")):
            return new
        now = deletion.timestamp(self._clock.now())
        return {**new, "status": {**after, "lastPhaseTransitionTime": now}}
