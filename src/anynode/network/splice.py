"""Two connections joined: what one receives the other sends.

In: two asyncio transports, or one and a ``ByteStream``. Promises: each direction ends by itself (half-close), a slow
reader slows its writer down and nobody else, an aborted side aborts the other. Two plain transports are joined without
a task and without copying.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import cast

from anynode.aio.http_stream import Gate, TransportStream
from anynode.api.wire import ByteReader, ByteStream

RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: what is closed is reset."""


class Side(asyncio.Protocol):
    """One of two joined connections. It reads nothing before ``join``."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.lost = False
        self._other: Side | None = None
        self._ended = False
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        other = self._other
        if other is None or other.transport is None:
            self._early.append(data)  # arrived together with the connection, before reading was paused
        elif not other.lost:
            other.transport.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        self._pass_end()
        return True  # the other direction may go on

    def pause_writing(self) -> None:
        if self._other is not None and self._other.transport is not None and not self._other.lost:
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None and self._other.transport is not None and not self._other.lost:
            self._other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        other = self._other
        if other is None or other.transport is None or other.lost:
            return
        if error is not None:
            reset(other.transport)
        else:
            other.transport.close()

    def _pass_end(self) -> None:
        other = self._other
        if other is None or other.transport is None or other.lost:
            return
        if other._ended:
            other.transport.close()
            if self.transport is not None:
                self.transport.close()
        elif other.transport.can_write_eof():
            other.transport.write_eof()

    def _start(self, other: Side) -> None:
        self._other = other
        for data in self._early:
            self.data_received(data)
        self._early.clear()
        if self._ended:
            self._pass_end()
        if self.transport is not None and not self.lost:
            self.transport.resume_reading()


def reset(transport: asyncio.Transport) -> None:
    """End the connection so that the peer cannot take it for complete, whether or not we have read all it sent."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
    transport.abort()


def join(one: Side, other: Side) -> None:
    """Let bytes flow both ways from now on."""
    if one.lost or other.lost:
        for side in (one, other):
            if side.transport is not None:
                reset(side.transport)
        return
    one._other, other._other = other, one
    one._start(other)
    other._start(one)


class StreamSide(asyncio.Protocol):
    """An accepted connection as a ``ByteStream``, for endpoints that are reached by one."""

    def __init__(self) -> None:
        self._gate = Gate()
        self.stream: TransportStream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.stream = TransportStream(cast(asyncio.Transport, transport), self._gate)

    def data_received(self, data: bytes) -> None:
        if self.stream is not None:
            self.stream.feed(data)

    def eof_received(self) -> bool:
        if self.stream is not None:
            self.stream.feed_eof()
        return True

    def pause_writing(self) -> None:
        self._gate.close()

    def resume_writing(self) -> None:
        self._gate.open()

    def connection_lost(self, error: Exception | None) -> None:
        self._gate.lose()
        if self.stream is not None:
            self.stream.lost()


async def join_streams(one: ByteStream, other: ByteStream) -> None:
    """Copy both ways until both ended, or one is gone; both are closed when this returns."""
    try:
        async with asyncio.TaskGroup() as ways:
            ways.create_task(_copy(one, other))
            ways.create_task(_copy(other, one))
    except* ConnectionError:
        pass  # gone on one side: both are closed below
    finally:
        for stream in (one, other):
            with contextlib.suppress(ConnectionError):
                await stream.close()


async def _copy(source: ByteReader, target: ByteStream) -> None:
    while data := await source.read():
        await target.write(data)
    await target.write_eof()
