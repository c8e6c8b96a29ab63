"""The one gRPC call a probe makes, ``grpc.health.v1.Health/Check``, as bytes; no I/O.

Only as much HTTP/2 as one unary call needs: the request is written without header compression, of the answer only DATA
frames are read, since the health status stands in the message and not in the headers. Source: RFC 9113, RFC 7541,
gRPC over HTTP/2, https://github.com/grpc/grpc/blob/master/doc/health-checking.md.
"""

from __future__ import annotations

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x7
END_STREAM, END_HEADERS, PADDED = 0x1, 0x4, 0x8
STREAM = 1
HEADER_BYTES = 9
MESSAGE_PREFIX_BYTES = 5
SERVING = 1
NAMES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")


def name_of(status: int) -> str:
    return NAMES[status] if status < len(NAMES) else str(status)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _varint(value: int, prefix_bits: int) -> bytes:
    """An HPACK integer whose first byte has nothing but its prefix."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes((value,))
    out, value = bytearray((most,)), value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes((*out, value))


def _field(name: str, value: str) -> bytes:
    """A header field, literal and never indexed."""
    parts = [each.encode() for each in (name, value)]
    return b"\x00" + b"".join(_varint(len(each), 7) + each for each in parts)


def request(service: str, authority: str) -> bytes:
    """Everything a client sends for one check of ``service`` (empty: the whole server)."""
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("user-agent", "kube-probe/1.36"),
        ("te", "trailers"),
    )
    name = service.encode()
    message = b"\x0a" + _protobuf_varint(len(name)) + name if name else b""
    body = b"\x00" + len(message).to_bytes(4, "big") + message
    return (
        PREFACE
        + _frame(SETTINGS, 0, 0, b"")
        + _frame(HEADERS, END_HEADERS, STREAM, b"".join(_field(*each) for each in fields))
        + _frame(DATA, END_STREAM, STREAM, body)
    )


def _protobuf_varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes((*out, value))


MOST_BYTES = 1 << 20
"""Of an answer of ten bytes; what runs in the pod may say anything."""


class Answer:
    """Bytes of the server in, the health status out."""

    def __init__(self) -> None:
        self.status: int | None = None
        self._buffer = b""
        self._message = b""

    def feed(self, data: bytes) -> bool:
        """Whether nothing more is to be expected; raises ``ValueError`` when the server ends the call otherwise."""
        self._buffer += data
        if len(self._buffer) > MOST_BYTES or len(self._message) > MOST_BYTES:
            raise ValueError("the answer is too long")
        while len(self._buffer) >= HEADER_BYTES:
            length = int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < HEADER_BYTES + length:
                return False
            kind, flags = self._buffer[3], self._buffer[4]
            stream = int.from_bytes(self._buffer[5:9], "big") & 0x7FFFFFFF
            payload = self._buffer[HEADER_BYTES : HEADER_BYTES + length]
            self._buffer = self._buffer[HEADER_BYTES + length :]
            if kind in (RESET, GOAWAY):
                raise ValueError("the server closed the connection")
            if stream != STREAM:
                continue
            if kind == DATA:
                self._take(payload, flags)
            if self.status is not None or flags & END_STREAM:
                return True
        return False

    def _take(self, payload: bytes, flags: int) -> None:
        if flags & PADDED:
            if not payload or payload[0] >= len(payload):
                raise ValueError("a frame has more padding than bytes")
            payload = payload[1 : len(payload) - payload[0]]
        self._message += payload
        if len(self._message) < MESSAGE_PREFIX_BYTES:
            return
        length = int.from_bytes(self._message[1:5], "big")
        body = self._message[MESSAGE_PREFIX_BYTES:]
        if len(body) >= length:
            self.status = _status_of(body[:length])


def _status_of(message: bytes) -> int:
    """Field 1 of HealthCheckResponse; an absent one is 0, UNKNOWN."""
    return message[1] if len(message) >= 2 and message[0] == 0x08 else 0
