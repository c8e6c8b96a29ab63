"""Certificate signing requests: who asked is what the server saw, whatever the request says.

Source: kubernetes ``pkg/registry/certificates/certificates/strategy.go``, 1.36.
"""

from __future__ import annotations

from anynode.api.objects import Object
from anynode.registry.store import ResourceStore, Write


class SigningRequestStore(ResourceStore):
    """Stamps new requests with their user."""

    def on_create(self, obj: Object, write: Write) -> Object:
        spec = {**(obj.get("spec") or {}), "username": write.user.name, "groups": list(write.user.groups)}
        for field, value in (
            ("uid", write.user.uid), ("extra", {key: list(values) for key, values in write.user.extra.items()}),
        ):  # fmt: skip
            if value:
                spec[field] = value
            else:
                spec.pop(field, None)
        return {**obj, "spec": spec}
