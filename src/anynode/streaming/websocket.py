"""WebSocket frames as a state machine: bytes in, messages out; messages in, bytes out. No I/O.

Both ends. Control frames are answered by the machine itself (``data_to_send``); fragmented messages are joined. Sub-
protocol names are taken as they come: ``SPDY/3.1+portforward.k8s.io`` is none by the letter of the RFC, and in use.
Source: RFC 6455.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import hashlib
from collections.abc import Mapping, Sequence

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MAX_MESSAGE_BYTES = 32 * 1024 * 1024


class Opcode(enum.IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(enum.IntEnum):
    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    NO_STATUS = 1005
    INVALID_DATA = 1007
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A whole message; ``text`` as the sender marked it (the bytes are not decoded)."""

    data: bytes
    text: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Closed:
    """The peer closed; ``code`` is ``NO_STATUS`` when it gave none."""

    code: int
    reason: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Pong:
    data: bytes


Event = Message | Closed | Pong


class WebSocketError(Exception):
    """The peer broke the protocol; ``code`` is what the close frame says."""

    def __init__(self, message: str, code: int = CloseCode.PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code


def accept_key(key: str) -> str:
    """``Sec-WebSocket-Key`` -> ``Sec-WebSocket-Accept``."""
    return base64.b64encode(hashlib.sha1(key.encode("latin-1") + GUID, usedforsecurity=False).digest()).decode("ascii")


def is_websocket(headers: Mapping[str, str]) -> bool:
    """Whether a request with these headers (lower-case names) asks for a WebSocket."""
    return headers.get("upgrade", "").lower() == "websocket" and "upgrade" in headers.get("connection", "").lower()


def protocols_of(headers: Mapping[str, str]) -> list[str]:
    """The sub-protocols asked for, in the client's order; ``[""]`` when it names none."""
    return [each.strip() for each in headers.get("sec-websocket-protocol", "").split(",")]


def choose_protocol(headers: Mapping[str, str], allowed: Sequence[str]) -> str | None:
    """The first sub-protocol of the client's that is allowed; None when none is."""
    return next((each for each in protocols_of(headers) if each in allowed), None)


def upgrade_headers(headers: Mapping[str, str], protocol: str) -> dict[str, str]:
    """The headers of the 101 answer."""
    answer = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": accept_key(headers.get("sec-websocket-key", "")),
    }
    return {**answer, "sec-websocket-protocol": protocol} if protocol else answer


def request_headers(key: bytes, protocols: Sequence[str]) -> dict[str, str]:
    """The headers of a client's request; ``key`` is 16 random bytes."""
    return {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": base64.b64encode(key).decode("ascii"),
        "sec-websocket-version": "13",
        "sec-websocket-protocol": ", ".join(protocols),
    }


def mask(data: bytes, key: bytes) -> bytes:
    """``data`` masked, or unmasked, with the four bytes ``key``."""
    size = len(data)
    if not size:
        return data
    pattern = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(pattern, "little")).to_bytes(size, "little")


def encode_frame(opcode: int, data: bytes, *, key: bytes | None = None, final: bool = True) -> bytes:
    """One frame; ``key`` masks it, as a client must."""
    first = opcode | (0x80 if final else 0)
    masked = 0x80 if key is not None else 0
    size = len(data)
    if size < 126:
        head = bytes((first, masked | size))
    elif size < 65536:
        head = bytes((first, masked | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, masked | 127)) + size.to_bytes(8, "big")
    return head + data if key is None else head + key + mask(data, key)


class WebSocket:
    """One end of a WebSocket connection after its handshake."""

    def __init__(self, *, client: bool, key: bytes = b"\0\0\0\0", max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        """``key`` masks what a client sends. Over a connection nobody meddles with, any key will do."""
        self._client = client
        self._key = key if client else None
        self._max_message_bytes = max_message_bytes
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._opcode: int | None = None
        self._out: list[bytes] = []
        self.close_sent = False
        self.close_received = False

    def data_to_send(self) -> bytes:
        """What must go to the peer now; each byte is given once."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def send(self, data: bytes, *, text: bool = False) -> None:
        if not self.close_sent:
            self._out.append(encode_frame(Opcode.TEXT if text else Opcode.BINARY, data, key=self._key))

    def ping(self, data: bytes = b"") -> None:
        if not self.close_sent:
            self._out.append(encode_frame(Opcode.PING, data, key=self._key))

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Say goodbye; nothing can be sent after it."""
        if self.close_sent:
            return
        self.close_sent = True
        payload = b"" if code == CloseCode.NO_STATUS else code.to_bytes(2, "big") + reason.encode()[:123]
        self._out.append(encode_frame(Opcode.CLOSE, payload, key=self._key))

    def receive(self, data: bytes) -> list[Event]:
        """What the peer said. Raises ``WebSocketError`` (a close frame is then ready to be sent)."""
        self._buffer += data
        events: list[Event] = []
        try:
            while not self.close_received and (frame := self._next_frame()) is not None:
                event = self._take(*frame)
                if event is not None:
                    events.append(event)
        except WebSocketError as error:
            self.close(error.code, str(error))
            raise
        return events

    def _next_frame(self) -> tuple[bool, int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        if first & 0x70:
            raise WebSocketError("reserved bits are set")
        size, at = second & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(buffer[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(buffer[2:10], "big"), 10
        if len(buffer) < at:
            return None
        opcode = first & 0x0F
        if opcode >= 8 and (size > 125 or not first & 0x80):
            raise WebSocketError("a control frame is too long or in parts")
        if size > self._max_message_bytes:
            raise WebSocketError("the message is too big", CloseCode.TOO_BIG)
        masked = bool(second & 0x80)
        if masked == self._client:
            raise WebSocketError("a client masks its frames, a server does not")
        key = b""
        if masked:
            key, at = bytes(buffer[at : at + 4]), at + 4
        end = at + size
        if len(buffer) < end:
            return None
        payload = bytes(buffer[at:end])
        del buffer[:end]
        return bool(first & 0x80), opcode, mask(payload, key) if masked else payload

    def _take(self, final: bool, opcode: int, payload: bytes) -> Event | None:
        if opcode == Opcode.PING:
            if not self.close_sent:
                self._out.append(encode_frame(Opcode.PONG, payload, key=self._key))
            return None
        if opcode == Opcode.PONG:
            return Pong(payload)
        if opcode == Opcode.CLOSE:
            return self._take_close(payload)
        if opcode == Opcode.CONTINUATION:
            if self._opcode is None:
                raise WebSocketError("a continuation of nothing")
        elif opcode in (Opcode.TEXT, Opcode.BINARY):
            if self._opcode is not None:
                raise WebSocketError("a new message inside another")
            self._opcode = opcode
        else:
            raise WebSocketError(f"unknown opcode {opcode}")
        self._parts.append(payload)
        self._parts_bytes += len(payload)
        if self._parts_bytes > self._max_message_bytes:
            raise WebSocketError("the message is too big", CloseCode.TOO_BIG)
        if not final:
            return None
        message = Message(b"".join(self._parts), text=self._opcode == Opcode.TEXT)
        self._parts = []
        self._parts_bytes = 0
        self._opcode = None
        return message

    def _take_close(self, payload: bytes) -> Closed:
        if len(payload) == 1:
            raise WebSocketError("a close frame of one byte")
        self.close_received = True
        code = int.from_bytes(payload[:2], "big") if payload else CloseCode.NO_STATUS
        self.close(code)
        return Closed(code, payload[2:].decode("utf-8", "replace"))
