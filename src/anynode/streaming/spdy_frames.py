"""SPDY/3.1 frames: bytes to values and back, header blocks with their shared zlib dictionary. No I/O.

``FrameReader`` and ``HeaderCodec`` hold what a connection's framing has to remember; meaning is in ``spdy``.
Source: SPDY Protocol draft 3.1, sections 2.2, 2.6 and 2.6.10.1.
"""

from __future__ import annotations

import dataclasses
import enum
import zlib
from collections.abc import Mapping

VERSION = 3
MAX_FRAME_BYTES = 1 << 24
MAX_HEADERS_BYTES = 1 << 20
MAX_HEADERS = 1000

FLAG_FIN = 0x01
FLAG_UNIDIRECTIONAL = 0x02


class FrameType(enum.IntEnum):
    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class SpdyError(Exception):
    """The peer broke the framing: the connection is of no more use."""


@dataclasses.dataclass(frozen=True, slots=True)
class DataFrame:
    stream_id: int
    flags: int
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class ControlFrame:
    """``kind`` may be a number we do not know; such frames are to be ignored."""

    kind: int
    flags: int
    payload: bytes


Frame = DataFrame | ControlFrame

_LENGTH_PREFIXED = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_PLAIN = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    words = [word.replace("_", " ").encode() for word in _LENGTH_PREFIXED.split()]
    return b"".join(len(word).to_bytes(4, "big") + word for word in words) + _PLAIN.encode()


DICTIONARY = _dictionary()
"""What both ends' compressors begin with; its Adler-32 is 0xe3c6a7c2."""


class HeaderCodec:
    """Header blocks of one connection, both directions; each direction is one zlib stream for its whole life."""

    def __init__(self) -> None:
        self._compress = zlib.compressobj(zdict=DICTIONARY)
        self._decompress = zlib.decompressobj(zdict=DICTIONARY)

    def encode(self, headers: Mapping[str, str]) -> bytes:
        """Lower-cased names and their values, compressed. Several values of a name are joined with NUL."""
        parts = [len(headers).to_bytes(4, "big")]
        for name, value in headers.items():
            raw_name, raw_value = name.lower().encode("latin-1"), value.encode("utf-8")
            parts += [len(raw_name).to_bytes(4, "big"), raw_name, len(raw_value).to_bytes(4, "big"), raw_value]
        return self._compress.compress(b"".join(parts)) + self._compress.flush(zlib.Z_SYNC_FLUSH)

    def decode(self, block: bytes) -> dict[str, str]:
        """Names (lower case) -> values. Raises ``SpdyError``."""
        try:
            data = self._decompress.decompress(block, MAX_HEADERS_BYTES)
        except zlib.error as error:
            raise SpdyError("a header block cannot be decompressed") from error
        if self._decompress.unconsumed_tail:
            raise SpdyError("a header block is too large")
        return _parse_block(data)


def _parse_block(data: bytes) -> dict[str, str]:
    at = 0

    def number() -> int:
        nonlocal at
        if at + 4 > len(data):
            raise SpdyError("a header block is too short")
        value = int.from_bytes(data[at : at + 4], "big")
        at += 4
        return value

    def text(encoding: str) -> str:
        nonlocal at
        size = number()
        if at + size > len(data):
            raise SpdyError("a header block is too short")
        raw = data[at : at + size]
        at += size
        return raw.decode(encoding, "replace")

    count = number()
    if count > MAX_HEADERS:
        raise SpdyError("a header block has too many headers")
    headers: dict[str, str] = {}
    for _ in range(count):
        name = text("latin-1").lower()
        headers[name] = text("utf-8")
    return headers


def encode_control(kind: FrameType, flags: int, payload: bytes) -> bytes:
    first = 0x8000_0000 | VERSION << 16 | kind
    return first.to_bytes(4, "big") + (flags << 24 | len(payload)).to_bytes(4, "big") + payload


def encode_data(stream_id: int, data: bytes, *, fin: bool = False) -> bytes:
    return stream_id.to_bytes(4, "big") + ((FLAG_FIN if fin else 0) << 24 | len(data)).to_bytes(4, "big") + data


class FrameReader:
    """Bytes as they come -> whole frames."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max_frame_bytes = max_frame_bytes

    def feed(self, data: bytes) -> list[Frame]:
        """The frames now complete, in order. Raises ``SpdyError``."""
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        at = 0
        try:
            while len(buffer) - at >= 8:
                first = int.from_bytes(buffer[at : at + 4], "big")
                second = int.from_bytes(buffer[at + 4 : at + 8], "big")
                size, flags = second & 0xFF_FFFF, second >> 24
                if size > self._max_frame_bytes:
                    raise SpdyError(f"a frame of {size} bytes is too large")
                end = at + 8 + size
                if len(buffer) < end:
                    break
                frames.append(self._frame(first, flags, bytes(buffer[at + 8 : end])))
                at = end
        finally:
            del buffer[:at]
        return frames

    @staticmethod
    def _frame(first: int, flags: int, payload: bytes) -> Frame:
        if not first & 0x8000_0000:
            return DataFrame(first, flags, payload)
        version = first >> 16 & 0x7FFF
        if version != VERSION:
            raise SpdyError(f"SPDY version {version} is not spoken")
        return ControlFrame(first & 0xFFFF, flags, payload)
