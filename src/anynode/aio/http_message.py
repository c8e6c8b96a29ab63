"""HTTP/1.1 messages as values, and the bytes of a response head.

``HttpRequest`` and ``HttpResponse`` are what a handler sees; nothing here does I/O. Header names are lower case on both
sides. Source: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import dataclasses
import functools
import http
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from anynode.api.remembering import remembered

LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ByteReader(Protocol):
    """Bytes that come piece by piece."""

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        ...

    async def close(self) -> None: ...


class ByteStream(ByteReader, Protocol):
    """A connection: bytes both ways."""

    async def write(self, data: bytes) -> None:
        """Hand over ``data``; waits while the peer is slow. Raises ``ConnectionError`` when the peer is gone."""
        ...

    async def write_eof(self) -> None: ...


class PushSink(Protocol):
    """What a ``push`` response writes to: one chunked body, written without waiting."""

    on_closed: Callable[[], None] | None
    """Called once when the client went away or the server stops before ``close``."""

    @property
    def buffered_bytes(self) -> int:
        """What was written and has not reached the kernel: the measure of a slow client."""
        ...

    def write(self, data: bytes) -> None:
        """Send ``data`` as a chunk; what is written in one loop turn leaves together."""
        ...

    def write_framed(self, chunk: bytes) -> None:
        """As ``write``, for bytes that ``frame_chunk`` already framed (once for all clients)."""
        ...

    def close(self) -> None:
        """End the body; the connection goes on with its next request."""
        ...


@dataclasses.dataclass(slots=True, kw_only=True)
class HttpRequest:
    """One request with its whole body. ``path`` is still percent-encoded; repeated headers are joined with ``", "``."""

    method: str
    path: str
    query_string: str = ""
    headers: dict[str, str]
    body: bytes = b""
    peer: str = ""
    client_cert: bytes | None = None
    """The client's certificate in DER, verified by the listener's CA."""
    keep_alive: bool = True
    version: str = "1.1"

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query_string}" if self.query_string else self.path


@dataclasses.dataclass(slots=True, kw_only=True)
class HttpResponse:
    """One response; at most one of ``body``, ``push``, ``stream`` and ``upgrade`` carries the content.

    ``repeated`` holds headers that may stand several times (Warning, Set-Cookie).
    """

    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""
    push: Callable[[PushSink], None] | None = None
    """Called when the head is written; whoever holds the sink writes chunks from then on."""
    stream: ByteReader | None = None
    """Read to its end and closed; chunked unless ``headers`` has a content-length."""
    upgrade: Callable[[ByteStream], Awaitable[None]] | None = None
    """With status 101: serves the raw connection, which is closed when it returns."""
    repeated: Sequence[tuple[str, str]] = ()


def frame_chunk(data: bytes) -> bytes:
    """``data`` (not empty) as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@functools.cache
def status_line(status: int) -> str:
    """``HTTP/1.1 200 OK``, line end included."""
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    return f"HTTP/1.1 {status} {phrase}\r\n"


@remembered(2048)
def header_name(raw: bytes) -> str:
    """A header's name as the wire has it -> lower case text."""
    return raw.lower().decode("latin-1")


def encode_headers(start: str, headers: Mapping[str, str], repeated: Sequence[tuple[str, str]], tail: str) -> bytes:
    """A message head: start line, headers, ready-made ``tail`` lines and the empty line.

    A line break inside a value becomes a space: no header can smuggle in another.
    """
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    if repeated:
        lines.extend(f"{name}: {value}\r\n" for name, value in repeated)
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines):
        text = "".join(f"{_one_line(line[:-2])}\r\n" for line in lines)
    return f"{start}{text}{tail}\r\n".encode("latin-1", "replace")


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")


def may_have_body(status: int) -> bool:
    return status >= 200 and status not in (204, 304)
