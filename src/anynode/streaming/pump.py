"""Copying bytes between connections, with back-pressure and half-close; and a pipe between two coroutines.

Cancelled, the copying stops and both ends are closed.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib

from anynode.api.wire import ByteReader, ByteStream

PIPE_BYTES = 256 * 1024


class Pipe:
    """Bytes from one coroutine to another, at most ``size`` waiting. ``feed`` never waits; ``drained`` does."""

    def __init__(self, size: int = PIPE_BYTES) -> None:
        self._chunks: collections.deque[bytes] = collections.deque()
        self._size = size
        self._bytes = 0
        self._eof = False
        self._broken = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def feed(self, data: bytes) -> None:
        if not data or self._eof:
            return
        self._chunks.append(data)
        self._bytes += len(data)
        if self._bytes > self._size and not self._broken:
            self._room.clear()
        self._changed.set()

    def feed_eof(self) -> None:
        """Nothing more comes; safe to call again."""
        self._eof = True
        self._changed.set()

    @property
    def ended(self) -> bool:
        return self._eof

    async def drained(self) -> None:
        """Wait until the reader has made room, or reads no more."""
        await self._room.wait()

    async def read(self) -> bytes:
        """Everything there is, at least one byte; empty at the end."""
        while not self._chunks:
            if self._eof:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._bytes = 0
        self._room.set()
        return data

    async def close(self) -> None:
        """The reader is done: nobody need wait for room any more."""
        self._broken = True
        self._chunks.clear()
        self._bytes = 0
        self._room.set()
        self.feed_eof()


class PipedStream:
    """One end of a connection within this process (see ``connected``)."""

    def __init__(self, incoming: Pipe, outgoing: Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    async def read(self) -> bytes:
        return await self._incoming.read()

    async def write(self, data: bytes) -> None:
        if self._outgoing.ended:
            raise ConnectionResetError("the connection is closed")
        self._outgoing.feed(data)
        await self._outgoing.drained()

    async def write_eof(self) -> None:
        self._outgoing.feed_eof()

    async def close(self) -> None:
        self._outgoing.feed_eof()
        await self._incoming.close()


def connected() -> tuple[PipedStream, PipedStream]:
    """Both ends of a new connection."""
    one, other = Pipe(), Pipe()
    return PipedStream(one, other), PipedStream(other, one)


async def copy(source: ByteReader, target: ByteStream) -> None:
    """Copy until the end of ``source``. Raises ``ConnectionError`` when ``target`` is gone or ``source`` is cut."""
    while data := await source.read():
        await target.write(data)


async def join(one: ByteStream, other: ByteStream) -> None:
    """Copy both ways until either side ends, then close both.

    For upgraded connections: TLS cannot be closed one way, so the end of one direction is the end of all.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            ways = [tasks.create_task(_copy_quietly(one, other)), tasks.create_task(_copy_quietly(other, one))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
    finally:
        await one.close()
        await other.close()


async def forward(client: ByteStream, server: ByteStream) -> None:
    """Copy both ways until the server has said all; the client may stop sending before. Closes both.

    For TCP behind a port-forward: ``client``'s end is handed on as a half-close, ``server``'s end is the end.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            upward = tasks.create_task(_copy_then_eof(client, server))
            await _copy_quietly(server, client)
            upward.cancel()
        with contextlib.suppress(ConnectionError):
            await client.write_eof()
    finally:
        await server.close()
        await client.close()


async def _copy_quietly(source: ByteReader, target: ByteStream) -> None:
    with contextlib.suppress(ConnectionError):
        await copy(source, target)


async def _copy_then_eof(source: ByteReader, target: ByteStream) -> None:
    with contextlib.suppress(ConnectionError):
        await copy(source, target)
        await target.write_eof()
