"""Port-forwarding, both ends: pairs of streams (data, error) over SPDY, or numbered channels over an old WebSocket.

The serving end dials a port for each pair; the client end opens a pair per connection. SPDY may run inside a WebSocket
(``SPDY/3.1+portforward.k8s.io``, see ``multiplex.WebSocketTunnel``). Source: cri-streaming
``pkg/streaming/portforward``, client-go ``tools/portforward``, 1.36.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Sequence

from anynode.api.wire import ByteStream
from anynode.streaming.multiplex import SpdyStream, SpdyStreams, WebSocketChannels
from anynode.streaming.pump import Pipe, forward
from anynode.streaming.spdy_frames import SpdyError

PROTOCOL = "portforward.k8s.io"
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"
CHANNEL_PROTOCOLS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io", "")
MOST_PAIRS = 1000
ERROR_BYTES = 1 << 16

Dial = Callable[[int], Awaitable[ByteStream]]
"""Connects to a port of the pod; raises ``ConnectionError``."""
Explain = Callable[[int, Exception], str]
"""What the user is told when a port could not be forwarded."""


@dataclasses.dataclass(slots=True)
class _Pair:
    data: SpdyStream | None = None
    error: SpdyStream | None = None


def port_of(text: str) -> int:
    """A port number in decimal; raises ``ValueError``."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ValueError(f"unable to parse {text!r} as a port")
    return int(text)


class Server:
    """Serves one SPDY connection: a dial per pair of streams."""

    def __init__(self, stream: ByteStream, dial: Dial, explain: Explain) -> None:
        self._dial = dial
        self._explain = explain
        self._pairs: dict[str, _Pair] = {}
        self._ready: asyncio.Queue[_Pair] = asyncio.Queue(MOST_PAIRS)
        self._streams = SpdyStreams(stream, client=False, opened=self._opened)

    def _opened(self, stream: SpdyStream) -> bool:
        kind, port = stream.headers.get("streamtype", ""), stream.headers.get("port", "")
        try:
            port_of(port)
        except ValueError:
            return False
        if kind not in ("data", "error") or len(self._pairs) >= MOST_PAIRS:
            return False
        name = stream.headers.get("requestid") or str(stream.stream_id - (2 if kind == "data" else 0))
        pair = self._pairs.setdefault(name, _Pair())
        if (pair.data if kind == "data" else pair.error) is not None:
            return False
        if kind == "data":
            pair.data = stream
        else:
            pair.error = stream
        if pair.data is not None and pair.error is not None:
            if self._ready.full():
                return False
            del self._pairs[name]
            self._ready.put_nowait(pair)
        return True

    async def run(self) -> None:
        """Serve until the client leaves; its connections end with it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(self._serve_pairs())
                await self._streams.run()
                serving.cancel()
        finally:
            await self._streams.close()

    async def _serve_pairs(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                pair = await self._ready.get()
                tasks.create_task(self._serve(pair))

    async def _serve(self, pair: _Pair) -> None:
        data, error = pair.data, pair.error
        assert data is not None
        assert error is not None
        port = port_of(data.headers["port"])
        with contextlib.suppress(ConnectionError):
            try:
                server = await self._dial(port)
            except (ConnectionError, OSError) as failure:
                await error.write(self._explain(port, failure).encode())
                await error.close()
                await data.reset()
                return
            try:
                await forward(data, server)
            finally:
                await error.close()


async def serve_channels(stream: ByteStream, protocol: str, ports: Sequence[int], dial: Dial, explain: Explain) -> None:
    """The old way: channel ``2n`` carries the data and ``2n + 1`` the errors of the n-th port asked for."""
    incoming = frozenset(range(0, 2 * len(ports), 2))
    channels = WebSocketChannels(stream, protocol=protocol, client=False, incoming=incoming)

    async def serve(index: int, port: int) -> None:
        with contextlib.suppress(ConnectionError):
            for channel in (2 * index, 2 * index + 1):
                await channels.write(channel, port.to_bytes(2, "little"))
            try:
                server = await dial(port)
            except (ConnectionError, OSError) as failure:
                await channels.write(2 * index + 1, explain(port, failure).encode())
                return
            await forward(_ChannelStream(channels, 2 * index), server)

    async def all_ports() -> None:
        async with asyncio.TaskGroup() as tasks:
            for index, port in enumerate(ports):
                tasks.create_task(serve(index, port))

    try:
        async with asyncio.TaskGroup() as tasks:
            reading, serving = tasks.create_task(channels.run()), tasks.create_task(all_ports())
            await asyncio.wait((reading, serving), return_when=asyncio.FIRST_COMPLETED)
            reading.cancel()
            serving.cancel()
    finally:
        await channels.close()


class _ChannelStream:
    """One channel of a WebSocket as a byte stream."""

    def __init__(self, channels: WebSocketChannels, channel: int) -> None:
        self._channels = channels
        self._channel = channel
        self._inbox: Pipe = channels.inbox(channel)

    async def read(self) -> bytes:
        return await self._inbox.read()

    async def write(self, data: bytes) -> None:
        await self._channels.write(self._channel, data)

    async def write_eof(self) -> None:
        await self._channels.end(self._channel)

    async def close(self) -> None:
        await self._inbox.close()


class PortForwardRefused(ConnectionError):
    """The serving end could not forward; its text says why."""


class Client:
    """The user's end of one SPDY connection: any number of connections to any port of the pod."""

    def __init__(self, stream: ByteStream) -> None:
        self._streams = SpdyStreams(stream, client=True)
        self._count = 0

    async def run(self) -> None:
        """Read until the server leaves; the owner's task. Connections work only while it runs."""
        try:
            await self._streams.run()
        finally:
            await self._streams.close()

    async def connect(self, port: int) -> ForwardedConnection:
        """A connection to ``port``. Raises ``ConnectionError``; a refusal by the pod shows when it is read."""
        headers = {"port": str(port), "requestid": str(self._count)}
        self._count += 1
        try:
            error = await self._streams.open({**headers, "streamtype": "error"})
            await error.write_eof()
            data = await self._streams.open({**headers, "streamtype": "data"})
            await error.accepted.wait()
            await data.accepted.wait()
        except SpdyError as broken:
            raise ConnectionAbortedError(str(broken)) from broken
        if self._streams.left.is_set():
            raise ConnectionResetError("the port-forward connection is closed")
        return ForwardedConnection(data, error)

    async def close(self) -> None:
        await self._streams.close()


class ForwardedConnection:
    """One forwarded connection as a byte stream."""

    def __init__(self, data: SpdyStream, error: SpdyStream) -> None:
        self._data = data
        self._error = error

    async def read(self) -> bytes:
        """The next bytes; empty at the end. Raises ``PortForwardRefused`` when the pod could not be reached."""
        data = await self._data.read()
        if not data:
            said = b""
            while len(said) < ERROR_BYTES and (more := await self._error.read()):
                said += more
            if said:
                raise PortForwardRefused(said.decode("utf-8", "replace"))
        return data

    async def write(self, data: bytes) -> None:
        await self._data.write(data)

    async def write_eof(self) -> None:
        await self._data.write_eof()

    async def close(self) -> None:
        await self._data.close()
