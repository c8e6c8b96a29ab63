"""What kubelet handlers share: plain-text answers as a kubelet gives them, and the handshakes before an upgrade.

Source: kubelet ``pkg/kubelet/server/server.go``, streaming ``pkg/httpstream``, 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from anynode.aio.http_message import HttpRequest, HttpResponse
from anynode.streaming import websocket

SPDY = "SPDY/3.1"
VERSION_HEADER = "x-stream-protocol-version"
ACCEPTED_HEADER = "x-accepted-stream-protocol-versions"

Query = Mapping[str, Sequence[str]]


class Refused(Exception):
    """A request that gets a plain answer instead of what it asked for."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}

    def response(self) -> HttpResponse:
        return text(self.message, status=self.status, headers=self.headers)


def text(body: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    return HttpResponse(
        status=status, headers={"content-type": "text/plain; charset=utf-8", **(headers or {})}, body=body.encode()
    )


def json(value: Any) -> HttpResponse:
    return HttpResponse(headers={"content-type": "application/json"}, body=orjson.dumps(value))


def first(query: Query, name: str) -> str:
    values = query.get(name)
    return values[0] if values else ""


def choose_websocket(request: HttpRequest, allowed: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The sub-protocol and the headers of the 101 answer. Raises ``Refused``."""
    protocol = websocket.choose_protocol(request.headers, allowed)
    if protocol is None:
        asked = " ".join(websocket.protocols_of(request.headers))
        raise Refused(403, f"requested protocol(s) are not supported: [{asked}]; supports [{' '.join(allowed)}]")
    if request.headers.get("sec-websocket-version", "13") != "13" or "sec-websocket-key" not in request.headers:
        raise Refused(400, "bad websocket handshake", {"sec-websocket-version": "13"})
    return protocol, websocket.upgrade_headers(request.headers, protocol)


def choose_spdy(request: HttpRequest, allowed: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The stream protocol (empty when the client names none) and the headers of the 101. Raises ``Refused``."""
    asked = [each.strip() for each in request.headers.get(VERSION_HEADER, "").split(",") if each.strip()]
    protocol = next((each for each in asked if each in allowed), None)
    if asked and protocol is None:
        message = (
            f"unable to upgrade: unable to negotiate protocol: client supports [{' '.join(asked)}], "
            f"server accepts [{' '.join(allowed)}]"
        )
        raise Refused(403, message, {ACCEPTED_HEADER: ", ".join(allowed)})
    upgrade = request.headers.get("upgrade", "").lower()
    if "upgrade" not in request.headers.get("connection", "").lower() or upgrade != SPDY.lower():
        raise Refused(400, "unable to upgrade: missing upgrade headers in request")
    headers = {"connection": "Upgrade", "upgrade": SPDY}
    return protocol or "", {**headers, VERSION_HEADER: protocol} if protocol else headers
