"""Where a webhook listens, and the protocol of what carries a review there.

``ClientConfig.of`` reads a ``clientConfig`` of a webhook configuration or of a CRD's conversion. ``Caller`` is what the
server gives (``apiserver.outbound``). Source: apiserver ``pkg/util/webhook/client.go``, 1.36.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from typing import Protocol, Self

from anynode.api.objects import Object

DEFAULT_PORT = 443


class CallFailed(Exception):
    """The webhook was not reached, or gave no usable answer; the text is what clients are told."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Either ``url``, or ``service`` in ``namespace`` with ``path`` and ``port``; ``ca_bundle`` in PEM, empty: the
    system's authorities."""

    url: str = ""
    namespace: str = ""
    service: str = ""
    path: str = ""
    port: int = DEFAULT_PORT
    ca_bundle: bytes = b""

    @classmethod
    def of(cls, raw: Object) -> Self:
        """What a validated ``clientConfig`` (v1) says."""
        bundle = raw.get("caBundle") or ""
        try:
            ca_bundle = base64.b64decode(bundle)
        except binascii.Error:
            ca_bundle = b""
        service = raw.get("service")
        if service is None:
            return cls(url=raw.get("url") or "", ca_bundle=ca_bundle)
        return cls(
            namespace=service.get("namespace") or "",
            service=service.get("name") or "",
            path=service.get("path") or "",
            port=service.get("port") or DEFAULT_PORT,
            ca_bundle=ca_bundle,
        )


class Caller(Protocol):
    """Posts JSON to webhooks."""

    async def post_json(self, config: ClientConfig, body: bytes, timeout_seconds: float) -> bytes:
        """The body of the webhook's answer. Raises ``CallFailed``."""
        ...
