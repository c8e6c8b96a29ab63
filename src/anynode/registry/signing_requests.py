"""Certificate signing requests: who asked is what the server saw, and conditions say when they came.

Source: kubernetes ``pkg/registry/certificates/certificates/strategy.go``, 1.36.
"""

from __future__ import annotations

from anynode.api.objects import Object, condition_of, get_path
from anynode.registry.deletion import timestamp
from anynode.registry.store import ResourceStore, Write


class SigningRequestStore(ResourceStore):
    """Stamps new requests with their user, new conditions with the time."""

    def on_create(self, obj: Object, write: Write) -> Object:
        user = write.user
        said: Object = {
            "username": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {key: list(values) for key, values in user.extra.items()},
        }
        kept = {field: value for field, value in (obj.get("spec") or {}).items() if field not in said}
        return {**obj, "spec": {**kept, **{field: value for field, value in said.items() if value}}}

    def on_update(self, new: Object, old: Object, write: Write) -> Object:
        conditions = get_path(new, "status", "conditions", default=None)
        if not conditions:
            return new
        stamped = [self._stamped(each, old) for each in conditions]
        return {**new, "status": {**new["status"], "conditions": stamped}}

    def _stamped(self, condition: Object, old: Object) -> Object:
        if condition.get("lastUpdateTime") and condition.get("lastTransitionTime"):
            return condition
        now = timestamp(self._clock.now())
        before = condition_of(old, condition.get("type") or "") or {}
        moved = before.get("lastTransitionTime") if before.get("status") == condition.get("status") else None
        return {
            **condition,
            "lastUpdateTime": condition.get("lastUpdateTime") or now,
            "lastTransitionTime": condition.get("lastTransitionTime") or moved or now,
        }
