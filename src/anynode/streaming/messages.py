"""Bytes or lines to a WebSocket, one way: logs and watches for clients that speak nothing else, such as browsers.

Each piece becomes one message; what the client sends is ignored but for its leaving. Source: streaming
``pkg/httpstream/wsstream/stream.go``, apiserver ``pkg/endpoints/handlers/watch.go`` (HandleWS), 1.36.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator

from anynode.api.wire import ByteReader, ByteStream
from anynode.streaming import websocket

BINARY, BASE64 = "binary.k8s.io", "base64.binary.k8s.io"
PROTOCOLS = ("", BINARY, BASE64)
LINGER_SECONDS = 1.0


async def pieces_of(reader: ByteReader, protocol: str) -> AsyncIterator[bytes]:
    """The messages of a log: an empty one first, then its bytes as the protocol wants them."""
    yield b""
    while data := await reader.read():
        yield base64.b64encode(data) if protocol == BASE64 else data


async def send_all(stream: ByteStream, messages: AsyncIterator[bytes], *, text: bool) -> None:
    """Send ``messages`` until they end or the client leaves, and say goodbye. The iterator is closed by its owner."""
    socket = websocket.WebSocket(client=False)

    async def flush() -> None:
        out = socket.data_to_send()
        if out:
            await stream.write(out)

    async def ignore() -> None:
        with contextlib.suppress(ConnectionError, websocket.WebSocketError):
            while not socket.close_received and (data := await stream.read()):
                socket.receive(data)
                await flush()

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            async for message in messages:
                socket.send(message, text=text)
                await flush()
            socket.close()
            await flush()

    async with asyncio.TaskGroup() as tasks:
        ignoring, sending = tasks.create_task(ignore()), tasks.create_task(send())
        await asyncio.wait((ignoring, sending), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            await asyncio.wait((ignoring,), timeout=LINGER_SECONDS)
        ignoring.cancel()
        sending.cancel()
