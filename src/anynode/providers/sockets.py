"""A TCP connection as a ``ByteStream``."""

from __future__ import annotations

import asyncio
import contextlib

READ_BYTES = 64 * 1024


class SocketStream:
    """Reads and writes one connection; see ``api.wire.ByteStream``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        return await self._reader.read(READ_BYTES)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def write_eof(self) -> None:
        if self._writer.can_write_eof():
            self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def connect(host: str, port: int) -> SocketStream:
    """A connection to ``host``; raises ``ConnectionError`` when nobody answers."""
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except ConnectionError:
        raise
    except OSError as error:
        raise ConnectionError(f"dial tcp {host}:{port}: {error.strerror or error}") from error
    return SocketStream(reader, writer)
