"""One connection of the HTTP client: a request out, its answer in.

The owner sends one request at a time and has the whole of its answer before the next. Bodies are read whole or piece
by piece with back-pressure; after a 101 the connection becomes a ``TransportStream``. Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Mapping, Sequence
from typing import Any, cast

import httptools

from anynode.aio.http_message import encode_headers, header_name
from anynode.aio.http_stream import HIGH_WATER_BYTES, Gate, TransportStream, keep_alive

MAX_HEAD_BYTES = 1 << 20
MAX_BODY_BYTES = 1 << 30
MAX_HEAD_LINES = 2_000


class ConnectionBroken(ConnectionError):
    """The connection ended before its answer was complete. ``silent``: not one byte of the answer had come."""

    def __init__(self, message: str, *, silent: bool) -> None:
        super().__init__(message)
        self.silent = silent


class ClientConnection(asyncio.Protocol):
    """The asyncio protocol of one connection to a server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.transport: asyncio.Transport = asyncio.Transport()
        self.gate = Gate()
        self.idle_since = 0.0
        self.reusable = False
        self.lost = False
        self.stream: TransportStream | None = None
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pairs: list[tuple[str, str]] = []
        self.early = b""
        self._parser: Any = None
        self._method = ""
        self._heard = False
        self._head_bytes = 0
        self._head_done = False
        self._complete = True
        self._parts: collections.deque[bytes] = collections.deque()
        self._buffered_bytes = 0
        self._paused = False
        self._error: ConnectionError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.most_body_bytes = MAX_BODY_BYTES
        """How much of a body that is read whole is taken."""
        self.piecewise = False
        """Whether the body is read piece by piece: then the server is slowed down with its reader."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        keep_alive(transport)

    def pause_writing(self) -> None:
        self.gate.close()

    def resume_writing(self) -> None:
        self.gate.open()

    def data_received(self, data: bytes) -> None:
        if self.stream is not None:
            self.stream.feed(data)
            return
        if self._complete or self._parser is None:
            if self.status == 101:
                self.early += data
            else:
                self.transport.abort()  # bytes nobody asked for
            return
        self._heard = True
        if not self._head_done:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES + len(data):
                self._fail("the answer's head is too large")
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.early += bytes(data[upgrade.args[0] :])
            self._finish(reusable=False)
        except httptools.HttpParserError as error:
            if not self._complete:
                self._fail(f"malformed HTTP response: {error}")
        if not self.piecewise and self._buffered_bytes > self.most_body_bytes and not self._complete:
            self._fail("the answer is too long")
        if self.piecewise and self._buffered_bytes > HIGH_WATER_BYTES and not self._complete:
            self._pause(True)
        self._wake()

    def eof_received(self) -> bool:
        if self.stream is not None:
            self.stream.feed_eof()
            return self.transport.can_write_eof()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._parser = None  # it holds us: without this only the collector could free either
        self.reusable = False
        self.gate.lose()
        if self.stream is not None:
            self.stream.lost()
        if not self._complete:
            if self._head_done and self.status != 101 and not self._is_framed():
                self._finish(reusable=False)
            else:
                self._error = ConnectionBroken(f"connection lost: {error or 'EOF'}", silent=not self._heard)
                self._complete = True
        self._wake()

    def _is_framed(self) -> bool:
        return "content-length" in self.headers or "chunked" in self.headers.get("transfer-encoding", "").lower()

    def _fail(self, message: str) -> None:
        self._error = ConnectionBroken(message, silent=False)
        self._complete = True
        self.transport.abort()
        self._wake()

    def _finish(self, *, reusable: bool) -> None:
        self._complete = True
        self.reusable = reusable and not self.lost

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # The parser's side

    def on_message_begin(self) -> None:
        self.headers = {}
        self.pairs = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done or self._complete:
            return
        if len(self.pairs) >= MAX_HEAD_LINES:
            self._fail("the answer's head is too large")
            return
        key, text = header_name(name), value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text
        self.pairs.append((key, text))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if 100 <= self.status < 200 and self.status != 101:
            return
        self._head_done = True
        if self._method == "HEAD" and not self._complete:
            self._finish(reusable=self._parser.should_keep_alive())

    def on_body(self, body: bytes) -> None:
        if self._method == "HEAD":
            return
        self._parts.append(body)
        self._buffered_bytes += len(body)

    def on_message_complete(self) -> None:
        if self._head_done and self.status != 101 and not self._complete:
            self._finish(reusable=self._parser.should_keep_alive())

    # The owner's side

    def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        repeated: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Write a request; its answer is had with ``head`` and then ``body`` or ``read``."""
        self._parser = httptools.HttpResponseParser(self)
        self._method = method
        self.piecewise = False
        self.most_body_bytes = MAX_BODY_BYTES
        self._heard = self._head_done = self._complete = self.reusable = False
        self._head_bytes = 0
        self._parts.clear()
        self._buffered_bytes = 0
        self.status = 0
        tail = ""
        if "content-length" not in headers and (body or method in ("POST", "PUT", "PATCH")):
            tail = f"content-length: {len(body)}\r\n"
        self.transport.write(encode_headers(f"{method} {target} HTTP/1.1\r\n", headers, repeated, tail) + body)

    async def head(self) -> None:
        """Wait until ``status`` and ``headers`` are there. Raises ``ConnectionError``."""
        while not self._head_done and not self._complete:
            await self._wait()
        if self._error is not None and not self._head_done:
            raise self._error

    async def body(self) -> bytes:
        """The whole body. Raises ``ConnectionError`` when it does not come whole."""
        while not self._complete:
            await self._wait()
        if self._error is not None:
            raise self._error
        data = b"".join(self._parts)
        self._parts.clear()
        self._buffered_bytes = 0
        return data

    async def read(self) -> bytes:
        """The next piece of the body; empty at its end. Raises ``ConnectionError`` when it was cut short."""
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self._complete:
                return b""
            self._pause(False)
            await self._wait()
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._buffered_bytes = 0
        self._pause(False)
        return data

    def _pause(self, wanted: bool) -> None:
        if wanted == self._paused or self.lost or self.transport.is_closing():
            return
        self._paused = wanted
        if wanted:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    @property
    def complete(self) -> bool:
        return self._complete and self._error is None

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        await self._waiter

    def hijack(self) -> TransportStream:
        """The raw connection after a 101."""
        self.stream = TransportStream(self.transport, self.gate, self.early)
        self.early = b""
        if self.lost:
            self.stream.lost()
        return self.stream
