"""One gRPC connection over HTTP/2, as small as a client of etcd needs it.

In: serialized requests. Out: serialized responses, as futures (``unary``) or call by call (``stream``). Requests of one
turn of the event loop leave in one piece, and nothing waits for an earlier answer. When the connection ends, everything
under way fails with ``GrpcError`` of code ``UNAVAILABLE``; whoever owns the channel opens another one.

Chosen over grpcio and grpclib after measuring: see ``docs/howto/etcd.md``. Header blocks are written
without compression; the server is told to keep no table either. Source: RFC 9113, RFC 7541,
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import asyncio
import collections
import ssl
import struct
import urllib.parse
from collections.abc import Callable
from typing import Self, cast

from anynode.storage.header_blocks import header_pairs

UNAVAILABLE = 14
INTERNAL = 13
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MOST_WINDOW = (1 << 31) - 1
FIRST_WINDOW = 65_535
REFILL_BYTES = 1 << 24
FRAME_BYTES = 16_384
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_TABLE, _PUSH, _INITIAL_WINDOW, _MAX_FRAME = 1, 2, 4, 5
_KEPT_BLOCKS = 256


class GrpcError(Exception):
    """A call that failed; ``code`` is gRPC's status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class Call:
    """One request and what comes back. ``on_message`` gets each response, ``on_end`` None or the error, once."""

    __slots__ = ("_channel", "buffer", "ended", "number", "on_end", "on_message", "received", "status", "window")

    def __init__(
        self,
        channel: GrpcChannel,
        number: int,
        window: int,
        on_message: Callable[[bytes], None],
        on_end: Callable[[GrpcError | None], None],
    ) -> None:
        self._channel = channel
        self.number = number
        self.window = window
        self.on_message = on_message
        self.on_end = on_end
        self.buffer = bytearray()
        self.received = 0
        self.ended = False
        self.status: tuple[int, str] | None = None

    def send(self, message: bytes) -> None:
        """One more request of a streaming call."""
        if not self.ended:
            self._channel.send_data(self, message, end=False)

    def cancel(self) -> None:
        """Want nothing more; ``on_end`` is not called. Safe to call again."""
        self._channel.cancel(self)

    def end(self, error: GrpcError | None) -> None:
        if not self.ended:
            self.ended = True
            self.on_end(error)


class GrpcChannel(asyncio.Protocol):
    """A connection; made by ``connect``. ``closed`` is set when it is of no more use."""

    def __init__(self, authority: str, *, secure: bool) -> None:
        self._authority = authority
        self._scheme = b"https" if secure else b"http"
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, Call] = {}
        self._next_stream = 1
        self._incoming = bytearray()
        self._outgoing: list[bytes] = []
        self._held: collections.deque[tuple[Call, memoryview, bool]] = collections.deque()
        self._window = FIRST_WINDOW
        self._peer_window = FIRST_WINDOW
        self._frame_bytes = FRAME_BYTES
        self._received = 0
        self._blocks: dict[bytes, tuple[int, str] | None] = {}
        self._heads: dict[str, bytes] = {}
        self._fragment: tuple[int, int, bytearray] | None = None
        self._pongs: collections.deque[asyncio.Future[None]] = collections.deque()
        self.closed = asyncio.Event()
        self.reason = ""

    @classmethod
    async def connect(cls, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> Self:
        """A channel ready to call; raises ``OSError``."""
        loop = asyncio.get_running_loop()
        server_name = host if tls is not None else None
        _, channel = await loop.create_connection(
            lambda: cls(f"{host}:{port}", secure=tls is not None), host, port, ssl=tls, server_hostname=server_name
        )
        return channel

    # -- calling ----------------------------------------------------------------------------------------------------

    def unary(self, path: str, message: bytes) -> asyncio.Future[bytes]:
        """The response to one request; the future raises ``GrpcError``. Cancelling it withdraws the call."""
        future: asyncio.Future[bytes] = self._loop.create_future()
        answer: list[bytes] = []

        def ended(error: GrpcError | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            elif not answer:
                future.set_exception(GrpcError(INTERNAL, "the server answered nothing"))
            else:
                future.set_result(answer[0])

        call = self._open(path, answer.append, ended)
        if call is None:
            return future
        self.send_data(call, message, end=True)
        future.add_done_callback(lambda done: call.cancel() if done.cancelled() else None)
        return future

    def stream(
        self, path: str, on_message: Callable[[bytes], None], on_end: Callable[[GrpcError | None], None]
    ) -> Call | None:
        """A call with any number of requests and responses; None when the channel is closed (``on_end`` was told)."""
        return self._open(path, on_message, on_end)

    async def ping(self) -> None:
        """Return when the server answered a ping."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._pongs.append(future)
        self._write(frame(_PING, 0, 0, b"anynode."))
        await future

    def close(self, reason: str = "closed") -> None:
        """End the connection and what is under way; safe to call again."""
        self._lost(reason)
        if self._transport is not None:
            self._transport.abort()

    def _open(
        self, path: str, on_message: Callable[[bytes], None], on_end: Callable[[GrpcError | None], None]
    ) -> Call | None:
        if self.closed.is_set():
            on_end(GrpcError(UNAVAILABLE, self.reason))
            return None
        number, self._next_stream = self._next_stream, self._next_stream + 2
        call = self._calls[number] = Call(self, number, self._peer_window, on_message, on_end)
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = self._head(path)
        self._write(frame(_HEADERS, _END_HEADERS, number, head))
        if self._next_stream > MOST_WINDOW - 2:
            self.close("out of stream numbers")
        return call

    def _head(self, path: str) -> bytes:
        """The header block of a call, every field a literal that enters no table."""
        pairs = (
            (b":method", b"POST"),
            (b":scheme", self._scheme),
            (b":path", path.encode()),
            (b":authority", self._authority.encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", b"anynode"),
        )
        return b"".join(b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value for name, value in pairs)

    def cancel(self, call: Call) -> None:
        if call.ended:
            return
        call.ended = True
        if self._calls.pop(call.number, None) is not None:
            self._write(frame(_RST_STREAM, 0, call.number, struct.pack(">I", 8)))

    # -- sending ----------------------------------------------------------------------------------------------------

    def send_data(self, call: Call, message: bytes, *, end: bool) -> None:
        body = b"\0" + struct.pack(">I", len(message)) + message
        size = len(body)
        if not self._held and size <= self._frame_bytes and size <= self._window and size <= call.window:
            self._window -= size
            call.window -= size
            self._write(frame(_DATA, _END_STREAM if end else 0, call.number, body))
            return
        self._held.append((call, memoryview(body), end))
        self._send_held()

    def _send_held(self) -> None:
        """Send what the server's windows allow; a call whose own window is full does not hold the others up."""
        stuck: collections.deque[tuple[Call, memoryview, bool]] = collections.deque()
        blocked: set[int] = set()
        while self._held:
            call, rest, end = self._held.popleft()
            if call.ended:
                continue
            while rest and call.number not in blocked:
                size = min(len(rest), self._frame_bytes, self._window, call.window)
                if size <= 0:
                    break
                self._window -= size
                call.window -= size
                last = end and size == len(rest)
                self._write(frame(_DATA, _END_STREAM if last else 0, call.number, bytes(rest[:size])))
                rest = rest[size:]
            if rest:
                blocked.add(call.number)
                stuck.append((call, rest, end))
                if self._window <= 0:
                    break
        stuck.extend(self._held)
        self._held = stuck

    def _write(self, content: bytes) -> None:
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(content)

    def _flush(self) -> None:
        content, self._outgoing = b"".join(self._outgoing), []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(content)

    # -- asyncio.Protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is one, but does not derive from it
        self._transport = transport
        settings = struct.pack(">HIHIHI", _TABLE, 0, _PUSH, 0, _INITIAL_WINDOW, MOST_WINDOW)
        grown = struct.pack(">I", MOST_WINDOW - FIRST_WINDOW)
        transport.write(PREFACE + frame(_SETTINGS, 0, 0, settings) + frame(_WINDOW_UPDATE, 0, 0, grown))

    def connection_lost(self, error: Exception | None) -> None:
        self._lost(f"connection lost: {error}" if error else "connection closed by the server")

    def _lost(self, reason: str) -> None:
        if self.closed.is_set():
            return
        self.reason = reason
        self.closed.set()
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call.end(GrpcError(UNAVAILABLE, reason))
        for pong in self._pongs:
            if not pong.done():
                pong.set_exception(GrpcError(UNAVAILABLE, reason))
        self._pongs.clear()

    def data_received(self, data: bytes) -> None:
        incoming = self._incoming
        incoming += data
        position, size = 0, len(incoming)
        while size - position >= 9:
            length = int.from_bytes(incoming[position : position + 3], "big")
            if size - position - 9 < length:
                break
            kind, flags = incoming[position + 3], incoming[position + 4]
            stream = int.from_bytes(incoming[position + 5 : position + 9], "big") & MOST_WINDOW
            payload = bytes(incoming[position + 9 : position + 9 + length])
            position += 9 + length
            try:
                self._take(kind, flags, stream, payload)
            except (struct.error, IndexError, ValueError) as error:
                self.close(f"the server does not speak gRPC: {error}")
            if self.closed.is_set():
                return
        del incoming[:position]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            self._take_data(flags, stream, payload)
        elif kind == _HEADERS:
            content = _unpadded(payload, flags)
            self._take_block(flags, stream, flags, bytearray(content[5:] if flags & _PRIORITY else content))
        elif kind == _CONTINUATION and self._fragment is not None:
            number, first, block = self._fragment
            self._take_block(flags, number, first, block + payload)
        elif kind == _WINDOW_UPDATE:
            self._take_window(stream, struct.unpack(">I", payload)[0] & MOST_WINDOW)
        elif kind == _SETTINGS and not flags & _ACK:
            self._take_settings(payload)
        elif kind == _PING:
            self._take_ping(flags, payload)
        elif kind == _RST_STREAM:
            call = self._calls.pop(stream, None)
            if call is not None:
                call.end(GrpcError(UNAVAILABLE, f"the server reset the call ({struct.unpack('>I', payload)[0]})"))
        elif kind == _GOAWAY:
            self.close(payload[8:].decode(errors="replace") or "the server goes away")

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        self._received += len(payload)
        if self._received >= REFILL_BYTES:
            self._write(frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", self._received)))
            self._received = 0
        call = self._calls.get(stream)
        if call is None:
            return
        call.received += len(payload)
        if call.received >= REFILL_BYTES:
            self._write(frame(_WINDOW_UPDATE, 0, stream, struct.pack(">I", call.received)))
            call.received = 0
        buffer = call.buffer
        buffer += _unpadded(payload, flags)
        while len(buffer) >= 5:
            end = 5 + int.from_bytes(buffer[1:5], "big")
            if len(buffer) < end:
                break
            message = bytes(buffer[5:end])
            del buffer[:end]
            call.on_message(message)
        if flags & _END_STREAM:
            self._finish(call)

    def _take_block(self, flags: int, stream: int, first: int, block: bytearray) -> None:
        if not flags & _END_HEADERS:
            self._fragment = (stream, first, block)
            return
        self._fragment = None
        status = self._status(bytes(block))
        call = self._calls.get(stream)
        if call is None:
            return
        call.status = status or call.status
        if first & _END_STREAM:
            self._finish(call)

    def _status(self, block: bytes) -> tuple[int, str] | None:
        """(code, message) of a header block that has them. Blocks are few: with no table, equal bytes mean the same."""
        if block in self._blocks:
            return self._blocks[block]
        found = dict(header_pairs(block))
        code = found.get("grpc-status")
        status: tuple[int, str] | None = None
        if code is not None:
            status = (int(code), urllib.parse.unquote(found.get("grpc-message", "")))
        elif found.get(":status", "200") != "200":
            status = (UNAVAILABLE, f"HTTP status {found[':status']}")
        if len(self._blocks) < _KEPT_BLOCKS:
            self._blocks[block] = status
        return status

    def _finish(self, call: Call) -> None:
        self._calls.pop(call.number, None)
        code, message = call.status or (UNAVAILABLE, "the server ended the call without a status")
        call.end(GrpcError(code, message) if code else None)

    def _take_window(self, stream: int, more: int) -> None:
        if stream == 0:
            self._window += more
        else:
            call = self._calls.get(stream)
            if call is not None:
                call.window += more
        if self._held:
            self._send_held()

    def _take_settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == _INITIAL_WINDOW:
                for call in self._calls.values():
                    call.window += value - self._peer_window
                self._peer_window = value
            elif name == _MAX_FRAME:
                self._frame_bytes = value
        self._write(frame(_SETTINGS, _ACK, 0))
        self._send_held()

    def _take_ping(self, flags: int, payload: bytes) -> None:
        if not flags & _ACK:
            self._write(frame(_PING, _ACK, 0, payload))
        elif self._pongs:
            pong = self._pongs.popleft()
            if not pong.done():
                pong.set_result(None)


def _unpadded(payload: bytes, flags: int) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload
