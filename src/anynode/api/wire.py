"""One request, one response, one watch event: what travels between a client and an API server.

The same values serve in process (``ApiServer.handle``) and over HTTP. In process an object travels as the dict itself
(``ApiRequest.obj``, ``ApiResponse.obj``); over HTTP as bytes.
"""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import orjson

from anynode.api.objects import Object
from anynode.api.remembering import remembered


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who asks. ``extra`` as in authentication.k8s.io UserInfo."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True, kw_only=True)
class ApiRequest:
    """One request. ``path`` is still percent-encoded; header names are lower case.

    ``obj`` stands for the body when the client is in the same process: it is shared and must not be changed.
    ``user`` is set by the listener or the in-process transport when the connection itself proves who asks.
    """

    method: str
    path: str
    query: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    obj: Object | None = None
    user: User | None = None
    peer: str = ""
    """The client's address, for audit and logs."""

    def argument(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        values = self.query.get(name)
        return values[0] if values else default

    @property
    def target(self) -> str:
        """Path and query as they stand in an HTTP request line."""
        query = urllib.parse.urlencode([(key, value) for key, values in self.query.items() for value in values])
        return f"{self.path}?{query}" if query else self.path


class WatchEvent:
    """One event of a watch: type ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, and the object.

    Made from the object or from its encoded bytes; the other form is made at most once, when first asked for, and is
    shared by everybody who holds the event.
    """

    __slots__ = ("_encoded", "_line", "_obj", "type")

    def __init__(self, kind: str, *, obj: Object | None = None, encoded: bytes | None = None) -> None:
        if obj is None and encoded is None:
            raise ValueError("an event has an object or its bytes")
        self.type = kind
        self._obj = obj
        self._encoded = encoded
        self._line: bytes | None = None

    @property
    def object(self) -> Object:
        if self._obj is None:
            self._obj = orjson.loads(self._encoded or b"{}")
        return self._obj

    @property
    def encoded(self) -> bytes:
        """The object as JSON."""
        if self._encoded is None:
            self._encoded = orjson.dumps(self._obj)
        return self._encoded

    @property
    def line(self) -> bytes:
        """The event as one line of a JSON watch stream, newline included."""
        if self._line is None:
            self._line = b'{"type":"%b","object":%b}\n' % (self.type.encode(), self.encoded)
        return self._line

    def __repr__(self) -> str:
        return f"WatchEvent({self.type!r})"


@runtime_checkable
class WatchSink(Protocol):
    """Where a watch's events go. Called on the event loop, never waits."""

    def deliver(self, events: Sequence[WatchEvent]) -> bool:
        """Take ``events`` in order; False when the reader is too slow and the watch must be ended."""
        ...

    def end(self) -> None:
        """Nothing more will come."""
        ...


class WatchSource(Protocol):
    """A watch that was accepted and has not begun."""

    def start(self, sink: WatchSink) -> None:
        """Deliver to ``sink`` from now on, beginning with what is there."""
        ...

    def stop(self) -> None:
        """Deliver nothing more; ``sink.end`` is not called. Safe to call again."""
        ...


class ByteReader(Protocol):
    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        ...

    async def close(self) -> None: ...


class ByteStream(ByteReader, Protocol):
    """A connection after an HTTP upgrade: bytes both ways."""

    async def write(self, data: bytes) -> None:
        """Hand over ``data``; waits while the peer is slow. Raises ``ConnectionError`` when the peer is gone."""
        ...

    async def write_eof(self) -> None: ...


class UpgradeHandler(Protocol):
    """Serves a connection after its 101 answer; the connection is closed when it returns."""

    async def __call__(self, stream: ByteStream) -> None: ...


@dataclasses.dataclass(slots=True, kw_only=True)
class ApiResponse:
    """One response. Exactly one of ``body``/``obj``, ``watch``, ``stream`` and ``upgrade`` carries the content.

    ``obj`` is the decoded body when the server had it at hand: shared, never to be changed.
    """

    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    repeated: Sequence[tuple[str, str]] = ()
    """Headers that may stand several times, such as Set-Cookie."""
    content_type: str = "application/json"
    body: bytes | None = None
    obj: Any = None
    watch: WatchSource | None = None
    stream: ByteReader | None = None
    """A body whose length is not known beforehand, such as a followed log."""
    upgrade: UpgradeHandler | None = None
    """With status 101: who serves the connection from now on."""

    def encoded(self) -> bytes:
        """The body as bytes; an object ends with a line feed, as Go's encoder ends it."""
        if self.body is not None:
            return self.body
        return b"" if self.obj is None else orjson.dumps(self.obj, option=orjson.OPT_APPEND_NEWLINE)

    def decoded(self) -> Any:
        """The JSON body as a value; raises ``ValueError`` when it is no JSON."""
        if self.obj is None and self.body:
            self.obj = orjson.loads(self.body)
        return self.obj


@remembered(4096)
def parse_query(text: str) -> Mapping[str, Sequence[str]]:
    """``a=1&a=2`` -> ``{"a": ["1", "2"]}``; blank values are kept. The result is shared: do not change it."""
    return urllib.parse.parse_qs(text, keep_blank_values=True)
