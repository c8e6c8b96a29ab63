"""Several byte channels over one upgraded connection: WebSocket channels, SPDY streams, SPDY inside a WebSocket.

Sockets meet the state machines here and nowhere else. ``run`` reads until the peer leaves; it is the caller's to put in
a task. Writes go straight out and wait while the peer is slow; a channel whose reader is slow stops the reading.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from anynode.api.wire import ByteStream
from anynode.streaming import remotecommand, spdy, websocket
from anynode.streaming.pump import Pipe
from anynode.streaming.spdy_frames import SpdyError

PUMP_BYTES = 32 * 1024
"""Outgoing messages are at most this long."""


class Channels(Protocol):
    """Numbered byte channels, whatever carries them."""

    protocol: str
    left: asyncio.Event
    """Set when the peer is gone."""

    def inbox(self, channel: int) -> Pipe:
        """What the peer sends on ``channel``; already at its end when the peer cannot send on it."""
        ...

    async def run(self) -> None:
        """Read until the peer leaves."""
        ...

    async def write(self, channel: int, data: bytes) -> None:
        """Raises ``ConnectionError`` when the peer is gone."""
        ...

    async def end(self, channel: int) -> None:
        """Nothing more will be written on ``channel``."""
        ...

    async def say_goodbye(self) -> None:
        """Tell the peer that nothing more will come at all; it may still be read from."""
        ...

    async def close(self) -> None: ...


class WebSocketChannels:
    """Channels by the first byte of each message."""

    def __init__(self, stream: ByteStream, *, protocol: str, client: bool, incoming: frozenset[int]) -> None:
        self.protocol = protocol
        self.left = asyncio.Event()
        self._stream = stream
        self._client = client
        self._socket = websocket.WebSocket(client=client)
        self._inboxes = {channel: Pipe() for channel in incoming}

    def inbox(self, channel: int) -> Pipe:
        found = self._inboxes.get(channel)
        if found is None:
            found = self._inboxes[channel] = Pipe()
            found.feed_eof()
        return found

    async def run(self) -> None:
        try:
            while not self._socket.close_received and (data := await self._stream.read()):
                try:
                    events = self._socket.receive(data)
                finally:
                    await _sent(self._flush())
                for event in events:
                    if isinstance(event, websocket.Message):
                        await self._take(event.data)
        except (ConnectionError, websocket.WebSocketError):
            pass  # either way the peer is gone, which is what the end of this means
        finally:
            for pipe in self._inboxes.values():
                pipe.feed_eof()
            self.left.set()

    async def _take(self, message: bytes) -> None:
        decoded = remotecommand.decode_message(self.protocol, message)
        if decoded is None:
            return
        channel, data = decoded
        if channel == remotecommand.CLOSE_SIGNAL and remotecommand.half_closes(self.protocol):
            if len(data) == 1 and data[0] in self._inboxes:
                self._inboxes[data[0]].feed_eof()
            return
        pipe = self._inboxes.get(channel)
        if pipe is not None:
            pipe.feed(data)
            await pipe.drained()

    async def _flush(self) -> None:
        out = self._socket.data_to_send()
        if out:
            await self._stream.write(out)

    async def write(self, channel: int, data: bytes) -> None:
        for at in range(0, max(1, len(data)), PUMP_BYTES):
            message = remotecommand.encode_message(self.protocol, channel, data[at : at + PUMP_BYTES])
            self._socket.send(message, text=remotecommand.is_base64(self.protocol))
            await self._flush()
            if self.left.is_set():
                raise ConnectionResetError("the peer left the session")

    async def end(self, channel: int) -> None:
        if self._client and remotecommand.half_closes(self.protocol):  # no client understands it from a server
            self._socket.send(bytes((remotecommand.CLOSE_SIGNAL, channel)))
            await self._flush()

    async def say_goodbye(self) -> None:
        self._socket.close()
        await self._flush()

    async def close(self) -> None:
        try:
            await self.say_goodbye()
        except ConnectionError:
            pass
        finally:
            await self._stream.close()


async def _sent(answer: Awaitable[None]) -> None:
    """Answer the peer if it still listens: what it said before it left counts all the same."""
    with contextlib.suppress(ConnectionError):
        await answer


class WebSocketTunnel:
    """A byte stream inside a WebSocket: each binary message carries bytes as they come."""

    def __init__(self, stream: ByteStream, *, client: bool) -> None:
        self._stream = stream
        self._socket = websocket.WebSocket(client=client)
        self._ended = False

    async def read(self) -> bytes:
        while not self._ended:
            data = await self._stream.read()
            if not data:
                break
            try:
                events = self._socket.receive(data)
            except websocket.WebSocketError as error:
                await _sent(self._flush())
                raise ConnectionAbortedError(str(error)) from error
            await _sent(self._flush())
            self._ended = self._socket.close_received
            payload = b"".join(event.data for event in events if isinstance(event, websocket.Message))
            if payload:
                return payload
        return b""

    async def _flush(self) -> None:
        out = self._socket.data_to_send()
        if out:
            await self._stream.write(out)

    async def write(self, data: bytes) -> None:
        if self._socket.close_sent:
            raise ConnectionResetError("the websocket is closed")
        self._socket.send(data)
        await self._flush()

    async def write_eof(self) -> None:
        """A tunnel cannot be closed one way."""

    async def close(self) -> None:
        self._socket.close()
        try:
            await self._flush()
        except ConnectionError:
            pass
        finally:
            await self._stream.close()


class SpdyStream:
    """One SPDY stream as a byte stream, with the headers it was opened with."""

    def __init__(self, owner: SpdyStreams, stream_id: int, headers: Mapping[str, str]) -> None:
        self._owner = owner
        self.stream_id = stream_id
        self.headers = headers
        self.inbox = Pipe()
        self.accepted = asyncio.Event()

    async def read(self) -> bytes:
        return await self.inbox.read()

    async def write(self, data: bytes) -> None:
        if self._owner.left.is_set() or not self._owner.machine.send(self.stream_id, data):
            raise ConnectionResetError("the stream is closed")
        await self._owner.flush()

    async def write_eof(self) -> None:
        if self._owner.machine.send(self.stream_id, b"", fin=True):
            self._owner.forget(self)
            await self._owner.flush()

    async def reset(self) -> None:
        self._owner.machine.reset(self.stream_id, spdy.ResetStatus.CANCEL)
        await self._owner.flush()

    async def close(self) -> None:
        """End both ways: what the peer still sends is thrown away."""
        await self.inbox.close()
        await self.write_eof()


class SpdyStreams:
    """All streams of one SPDY connection. ``opened`` is called for each stream the peer opens: True accepts it."""

    def __init__(self, stream: ByteStream, *, client: bool, opened: Callable[[SpdyStream], bool] | None = None) -> None:
        self.machine = spdy.SpdyConnection(client=client)
        self.left = asyncio.Event()
        self._stream = stream
        self._opened = opened
        self._streams: dict[int, SpdyStream] = {}

    async def open(self, headers: Mapping[str, str]) -> SpdyStream:
        stream_id = self.machine.open(headers)
        stream = self._streams[stream_id] = SpdyStream(self, stream_id, headers)
        await self.flush()
        return stream

    async def run(self) -> None:
        """Read until the peer leaves."""
        try:
            while data := await self._stream.read():
                for event in self.machine.receive(data):
                    await self._take(event)
                await _sent(self.flush())
        except (ConnectionError, SpdyError):
            pass  # either way the peer is gone, which is what the end of this means
        finally:
            self.left.set()
            for stream in self._streams.values():
                stream.inbox.feed_eof()
                stream.accepted.set()

    async def _take(self, event: spdy.Event) -> None:
        match event:
            case spdy.StreamOpened(stream_id, headers, fin):
                stream = SpdyStream(self, stream_id, headers)
                if self._opened is not None and self._opened(stream):
                    self._streams[stream_id] = stream
                    self.machine.reply(stream_id)
                    if fin:
                        stream.inbox.feed_eof()
                else:
                    self.machine.reset(stream_id, spdy.ResetStatus.REFUSED_STREAM)
            case spdy.StreamAccepted(stream_id):
                if (found := self._streams.get(stream_id)) is not None:
                    found.accepted.set()
            case spdy.DataReceived(stream_id, data, fin):
                if (found := self._streams.get(stream_id)) is not None:
                    found.inbox.feed(data)
                    if fin:
                        found.inbox.feed_eof()
                    await found.inbox.drained()
                    self.forget(found)
            case spdy.StreamReset(stream_id):
                if (found := self._streams.pop(stream_id, None)) is not None:
                    found.inbox.feed_eof()
                    found.accepted.set()
            case _:
                pass

    def forget(self, stream: SpdyStream) -> None:
        """Let go of a stream that is closed both ways and whose end was handed on."""
        if stream.inbox.ended and stream.stream_id not in self.machine.streams:
            self._streams.pop(stream.stream_id, None)

    async def flush(self) -> None:
        out = self.machine.data_to_send()
        if out:
            await self._stream.write(out)

    async def say_goodbye(self) -> None:
        self.machine.go_away()
        await self.flush()

    async def close(self) -> None:
        try:
            await self.say_goodbye()
        except ConnectionError:
            pass
        finally:
            await self._stream.close()


class SpdyChannels:
    """The remote command channels as SPDY streams, told apart by their ``streamtype`` header."""

    def __init__(self, stream: ByteStream, *, protocol: str, client: bool) -> None:
        self.protocol = protocol
        self._client = client
        self._by_channel: dict[int, SpdyStream] = {}
        self._arrived = asyncio.Event()
        self._streams = SpdyStreams(stream, client=client, opened=None if client else self._opened)
        self.left = self._streams.left
        self._absent = Pipe()
        self._absent.feed_eof()

    def _opened(self, stream: SpdyStream) -> bool:
        name = stream.headers.get("streamtype", "").upper()
        if name not in remotecommand.Channel.__members__:
            return False
        channel = remotecommand.Channel[name]
        if channel in self._by_channel:
            return False
        self._by_channel[channel] = stream
        self._arrived.set()
        return True

    async def expect(self, channels: frozenset[remotecommand.Channel]) -> bool:
        """Wait until the peer has opened ``channels``; False when it left before."""
        while not channels <= self._by_channel.keys():
            if self.left.is_set():
                return False
            self._arrived.clear()
            await self._arrived.wait()
        return True

    async def open_all(self, channels: frozenset[remotecommand.Channel]) -> None:
        """Open ``channels``, error first as client-go does, and wait until they are accepted."""
        for channel in sorted(channels, key=lambda each: (each != remotecommand.Channel.ERROR, each)):
            self._by_channel[channel] = await self._streams.open({"streamtype": channel.name.lower()})
        for stream in self._by_channel.values():
            await stream.accepted.wait()
        if self.left.is_set():
            raise ConnectionResetError("the peer left before the session began")

    def inbox(self, channel: int) -> Pipe:
        found = self._by_channel.get(channel)
        return found.inbox if found is not None else self._absent

    async def run(self) -> None:
        try:
            await self._streams.run()
        finally:
            self._arrived.set()

    async def write(self, channel: int, data: bytes) -> None:
        found = self._by_channel.get(channel)
        if found is not None and data:
            await found.write(data)

    async def end(self, channel: int) -> None:
        found = self._by_channel.get(channel)
        if found is not None:
            await found.write_eof()

    async def say_goodbye(self) -> None:
        await self._streams.say_goodbye()

    async def close(self) -> None:
        await self._streams.close()
