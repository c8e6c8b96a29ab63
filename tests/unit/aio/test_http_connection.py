"""The connection fed with anything at all, in pieces of any size, without a socket."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from anynode.aio.clock import SystemClock
from anynode.aio.http_connection import ServerConnection
from anynode.aio.http_message import HttpRequest, HttpResponse
from anynode.aio.http_server import HttpServer
from anynode.aio.http_stream import Flusher


class Wire(asyncio.Transport):
    """A transport that keeps what was written; reading stops when it is paused or closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


async def feed(pieces: list[bytes], *, wait: bool) -> tuple[list[HttpRequest], bytes]:
    """The requests the handler saw, and what was answered."""
    seen: list[HttpRequest] = []

    async def handler(request: HttpRequest) -> HttpResponse:
        if wait:
            await asyncio.sleep(0)
        seen.append(request)
        return HttpResponse(body=b"%d" % len(seen))

    loop = asyncio.get_running_loop()
    server = HttpServer(handler, clock=SystemClock(), max_body_bytes=1000, max_head_bytes=2000)
    server.flusher = Flusher(loop)
    connection, wire = ServerConnection(server, loop), Wire()
    done = loop.create_future()

    def deliver(index: int) -> None:
        """In turns of the loop of its own, as a socket does."""
        if index < len(pieces) and not wire.closed:
            if not wire.paused:
                connection.data_received(pieces[index])
                index += 1
            loop.call_soon(deliver, index)
        else:
            loop.call_soon(done.set_result, None)

    connection.connection_made(wire)
    loop.call_soon(deliver, 0)
    await done
    while connection.busy and not wire.closed:  # noqa: ASYNC110 - turns of the loop, no time
        await asyncio.sleep(0)
    connection.connection_lost(None)
    if connection.task is not None:
        await asyncio.wait((connection.task,))
    return seen, wire.written


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in [*pieces, data] if piece]


REQUESTS = st.lists(
    st.tuples(st.sampled_from(["GET", "POST", "PUT"]), st.binary(max_size=60), st.booleans()), min_size=1, max_size=40
)


@settings(deadline=None, max_examples=60)
@given(REQUESTS, st.lists(st.integers(1, 200), max_size=30), st.booleans())
def test_requests_are_read_however_they_are_cut(
    requests: list[tuple[str, bytes, bool]], sizes: list[int], wait: bool
) -> None:
    wire = b""
    for method, body, chunked in requests:
        head = f"{method} /x HTTP/1.1\r\n"
        if chunked and body:
            wire += f"{head}transfer-encoding: chunked\r\n\r\n{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
        else:
            wire += f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    seen, answered = asyncio.run(feed(cut(wire, sizes), wait=wait))
    assert [(each.method, each.body) for each in seen] == [(method, body) for method, body, _ in requests]
    assert answered.count(b"HTTP/1.1 200 OK\r\n") == len(requests)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.one_of(st.binary(max_size=80), st.just(b"GET / HTTP/1.1\r\n"), st.just(b"\r\n")), max_size=30))
def test_no_bytes_break_the_connection(pieces: list[bytes]) -> None:
    _, answered = asyncio.run(feed([piece for piece in pieces if piece], wait=False))
    assert answered == b"" or answered.startswith(b"HTTP/1.1 ")
    assert b"HTTP/1.1 500" not in answered
