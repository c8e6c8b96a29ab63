"""The listener: HTTP requests become ``ApiRequest``s, answers become HTTP responses, watches are pushed.

A watch writes each event's shared line straight to its connection; a reader that lets more than ``MOST_BUFFERED_BYTES``
pile up is cut off. Large lists are compressed for readers that are not on this machine.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import gzip
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import orjson

from anynode.aio.http_message import ByteStream, HttpRequest, HttpResponse, PushSink, frame_chunk
from anynode.api.errors import RequestEntityTooLarge
from anynode.api.wire import ApiRequest, ApiResponse, User, WatchEvent, WatchSource, parse_query
from anynode.apiserver import long_lists
from anynode.apiserver.front_proxy import FrontProxies
from anynode.apiserver.identity import AUTHENTICATED
from anynode.apiserver.loopback import LoopbackWatch
from anynode.apiserver.server import ApiServer
from anynode.registry.items import encoded_lines
from anynode.security.pki import PkiError, certificate_user
from anynode.streaming import messages, websocket

MOST_BODY_BYTES = 3 * 1024 * 1024
MOST_BUFFERED_BYTES = 16 * 1024 * 1024
COMPRESS_FROM_BYTES = 128 * 1024
COMPRESSION_LEVEL = 1
TOKEN_PROTOCOL = "base64url.bearer.authorization.k8s.io."
_JSON_HEADERS = {"content-type": "application/json", "cache-control": "no-cache, private"}
_WATCH_HEADERS = {"content-type": "application/json", "cache-control": "no-cache, private"}


class _Framing:
    """The chunk of the batch delivered last: watchers that share a batch share its bytes, framed once."""

    def __init__(self) -> None:
        self._events: Sequence[WatchEvent] = ()
        self._chunk = b""

    def chunk(self, events: Sequence[WatchEvent]) -> bytes:
        if events is not self._events:
            self._events = events
            self._chunk = frame_chunk(encoded_lines(events))
        return self._chunk


class _Sink:
    """A watch on a connection. What it begins with may be larger than what may pile up later."""

    def __init__(self, writer: PushSink, framing: _Framing) -> None:
        self._writer = writer
        self._framing = framing
        self._most_bytes = 0

    def deliver(self, events: Sequence[WatchEvent]) -> bool:
        writer = self._writer
        chunk = self._framing.chunk(events)
        if not self._most_bytes:
            self._most_bytes = MOST_BUFFERED_BYTES + len(chunk)
        elif writer.buffered_bytes > self._most_bytes:
            return False
        writer.write_framed(chunk)
        return True

    def end(self) -> None:
        self._writer.on_closed = None
        self._writer.close()


def _pushing(source: WatchSource, framing: _Framing) -> Callable[[PushSink], None]:
    """What starts ``source`` on a connection."""

    def push(writer: PushSink) -> None:
        writer.on_closed = source.stop
        source.start(_Sink(writer, framing))

    return push


def _as_messages(request: HttpRequest, source: WatchSource) -> HttpResponse:
    """A watch for a client that speaks WebSocket: one text message per event."""

    async def serve(stream: ByteStream) -> None:
        watch = LoopbackWatch(source)

        async def lines() -> AsyncIterator[bytes]:
            async for events in watch:
                for event in events:
                    yield event.line

        try:
            await messages.send_all(stream, lines(), text=True)
        finally:
            await watch.close()

    return HttpResponse(status=101, headers=websocket.upgrade_headers(request.headers, ""), upgrade=serve)


def too_large() -> HttpResponse:
    """The answer to a body over the limit."""
    error = RequestEntityTooLarge(f"Request entity too large: limit is {MOST_BODY_BYTES}")
    return HttpResponse(status=413, headers=_JSON_HEADERS, body=orjson.dumps(error.status()))


class HttpAdapter:
    """The handler for ``aio.http_server.HttpServer``."""

    def __init__(
        self, server: ApiServer, *, strangers: frozenset[str] = frozenset(), proxies: FrontProxies | None = None
    ) -> None:
        """``strangers``: whose certificates are for other servers. Somebody who may say where a node listens could
        otherwise make this server talk to itself, with all rights. ``proxies``: who may speak for others."""
        self._proxies = proxies
        self._server = server
        self._strangers = strangers
        self._framing = _Framing()

    async def handle(self, request: HttpRequest) -> HttpResponse:
        user: User | None = None
        if request.client_cert is not None:
            user = self._known(request.client_cert, request.headers)
        if "sec-websocket-protocol" in request.headers:
            request.headers = _with_token(request.headers)
        asked = ApiRequest(
            method=request.method,
            path=request.path,
            query=parse_query(request.query_string) if request.query_string else {},
            headers=request.headers,
            body=request.body,
            user=user,
            peer=request.peer,
        )
        return self._answer(request, await self._server.handle(asked))

    def _known(self, certificate: bytes, headers: Mapping[str, str]) -> User | None:
        """Whom the certificate stands for, or speaks for."""
        if self._proxies is not None and not self._proxies.is_client(certificate):
            return self._proxies.user(certificate, headers)
        user = _user_of(certificate)
        return None if user is not None and user.name in self._strangers else user

    def _answer(self, request: HttpRequest, response: ApiResponse) -> HttpResponse:
        if response.watch is not None:
            if websocket.is_websocket(request.headers):
                return _as_messages(request, response.watch)
            headers = {**_WATCH_HEADERS, **response.headers}
            return HttpResponse(status=200, headers=headers, push=_pushing(response.watch, self._framing))
        if response.upgrade is not None:
            return HttpResponse(status=response.status, headers=response.headers, upgrade=response.upgrade)
        headers = {"cache-control": "no-cache, private", **response.headers}
        if response.content_type:
            headers["content-type"] = response.content_type
        stream = response.stream
        if stream is not None:
            if isinstance(stream, long_lists.LongList) and _wants_gzip(request):
                stream = long_lists.Compressed(stream, COMPRESSION_LEVEL)
                headers |= {"content-encoding": "gzip", "vary": "Accept-Encoding"}
            return HttpResponse(status=response.status, headers=headers, repeated=response.repeated, stream=stream)
        body = response.encoded()
        if len(body) > COMPRESS_FROM_BYTES and _wants_gzip(request):
            body = gzip.compress(body, COMPRESSION_LEVEL, mtime=0)
            headers["content-encoding"] = "gzip"
            headers["vary"] = "Accept-Encoding"
        return HttpResponse(status=response.status, headers=headers, repeated=response.repeated, body=body)


def _with_token(headers: dict[str, str]) -> dict[str, str]:
    """The headers with the bearer token a browser hid among its sub-protocols, where no other header is its to set."""
    protocols = websocket.protocols_of(headers)
    tokens = [each.removeprefix(TOKEN_PROTOCOL) for each in protocols if each.startswith(TOKEN_PROTOCOL)]
    others = [each for each in protocols if not each.startswith(TOKEN_PROTOCOL)]
    if len(tokens) != 1 or not others or "authorization" in headers:
        return headers
    try:
        token = base64.b64decode(tokens[0] + "=" * (-len(tokens[0]) % 4), altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        return headers
    return {**headers, "authorization": f"Bearer {token}", "sec-websocket-protocol": ", ".join(others)}


@functools.lru_cache(maxsize=1024)
def _user_of(certificate: bytes) -> User | None:
    """Whom a verified client certificate stands for; None when it names nobody."""
    try:
        user = certificate_user(certificate)
    except PkiError:
        return None
    if user is None:
        return None
    return dataclasses.replace(user, groups=(*user.groups, AUTHENTICATED))


def _wants_gzip(request: HttpRequest) -> bool:
    """Whether compressing saves more than it costs: never over the loopback."""
    if request.peer.startswith(("127.", "[::1]", "::1")):
        return False
    return "gzip" in request.headers.get("accept-encoding", "")
