"""Writing and reading on one transport: pushed chunks for many clients, and the raw byte stream after an upgrade.

``Flusher`` joins everything written to a client within one loop turn into one ``transport.write``, with one scheduled
call for all clients. ``TransportStream`` is a ``ByteStream`` with back-pressure both ways. No task is made here.
"""

from __future__ import annotations

import asyncio
import collections
import socket
from collections.abc import Callable

from anynode.aio.http_message import LAST_CHUNK, frame_chunk

HIGH_WATER_BYTES = 256 * 1024
"""A stream whose reader is slow stops reading from the peer above this."""


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Let the kernel find out when the peer vanished without a word: within about a minute, as Go's defaults do."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):  # macOS names them otherwise
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Flusher:
    """Writers that have something to send at the end of this loop turn."""

    __slots__ = ("_dirty", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._dirty: list[PushWriter] = []

    def add(self, writer: PushWriter) -> None:
        if not self._dirty:
            self._loop.call_soon(self._flush)
        self._dirty.append(writer)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for writer in dirty:
            writer.flush()


class PushWriter:
    """One chunked response body, written by calls that never wait (see ``http_message.PushSink``)."""

    __slots__ = ("_finished", "_flusher", "_pending", "_pending_bytes", "_transport", "closed", "on_closed")

    def __init__(self, transport: asyncio.WriteTransport, flusher: Flusher, finished: Callable[[], None]) -> None:
        self._transport = transport
        self._flusher = flusher
        self._finished = finished
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self.closed = False
        self.on_closed: Callable[[], None] | None = None

    @property
    def buffered_bytes(self) -> int:
        return self._pending_bytes if self.closed else self._pending_bytes + self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        if data:
            self.write_framed(frame_chunk(data))

    def write_framed(self, chunk: bytes) -> None:
        if self.closed:
            return
        if not self._pending:
            self._flusher.add(self)
        self._pending.append(chunk)
        self._pending_bytes += len(chunk)

    def flush(self) -> None:
        """Hand everything written so far to the transport."""
        pending = self._pending
        if pending:
            self._transport.write(pending[0] if len(pending) == 1 else b"".join(pending))
            self._pending = []
            self._pending_bytes = 0

    def close(self) -> None:
        if self.closed:
            return
        self._pending.append(LAST_CHUNK)
        self.flush()
        self.closed = True
        self._finished()

    def lost(self) -> None:
        """The connection is gone: forget what was not sent and tell who writes."""
        if self.closed:
            return
        self.closed = True
        self._pending = []
        self._pending_bytes = 0
        if self.on_closed is not None:
            self.on_closed()


class Gate:
    """Whether the transport takes more: open, or shut until the peer has read."""

    __slots__ = ("_waiters", "lost", "shut")

    def __init__(self) -> None:
        self.shut = False
        self.lost = False
        self._waiters: list[asyncio.Future[None]] = []

    def close(self) -> None:
        self.shut = True

    def open(self) -> None:
        self.shut = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def lose(self) -> None:
        """The connection is gone; everybody waiting is told."""
        self.lost = True
        self.open()

    async def passed(self) -> None:
        """Wait until the transport takes more; raises ``ConnectionError`` when it never will."""
        while self.shut and not self.lost:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        if self.lost:
            raise ConnectionResetError("the connection is closed")


class TransportStream:
    """A connection as bytes both ways. Its protocol calls ``feed``, ``feed_eof`` and ``lost``."""

    def __init__(self, transport: asyncio.Transport, gate: Gate, early: bytes = b"") -> None:
        self._transport = transport
        self._gate = gate
        self._chunks: collections.deque[bytes] = collections.deque()
        self._buffered_bytes = 0
        self._eof = False
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        if early:
            self.feed(early)

    def feed(self, data: bytes) -> None:
        """Bytes came from the peer."""
        self._chunks.append(data)
        self._buffered_bytes += len(data)
        if self._buffered_bytes > HIGH_WATER_BYTES and not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def feed_eof(self) -> None:
        """The peer will send nothing more."""
        self._eof = True
        self._wake()

    def lost(self) -> None:
        """The connection is gone; what came before it can still be read."""
        self.feed_eof()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def read(self) -> bytes:
        """Everything that is there, at least one byte; empty at the end."""
        while not self._chunks:
            if self._eof:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered_bytes = 0
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        if self._gate.lost or self._transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._transport.write(data)
        if self._gate.shut:
            await self._gate.passed()

    async def write_eof(self) -> None:
        """Say that nothing more will come, where the connection has a way to say it (TLS has none)."""
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    async def close(self) -> None:
        self.feed_eof()
        self._transport.close()
