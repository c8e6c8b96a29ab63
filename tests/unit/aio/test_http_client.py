"""The client against servers that answer with exactly these bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from anynode.aio.clock import SystemClock
from anynode.aio.http_client import HttpClient, Origin
from anynode.testing.clock import FakeClock


class Script:
    """A server that sends the next answer for each request head it reads; None hangs up."""

    def __init__(self, answers: Sequence[bytes | None], *, hang_up: bool = False) -> None:
        self.answers = list(answers)
        self.hang_up = hang_up
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self.answers.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if self.hang_up:
                    break
        self.open -= 1
        writer.close()


@contextlib.asynccontextmanager
async def scripted(*answers: bytes | None, hang_up: bool = False) -> AsyncIterator[tuple[Script, Origin, HttpClient]]:
    script = Script(answers, hang_up=hang_up)
    client = HttpClient(clock=SystemClock())
    server = await asyncio.start_server(script, "127.0.0.1", 0)
    async with server:
        yield script, Origin(host="127.0.0.1", port=server.sockets[0].getsockname()[1]), client
        await client.close()
        async with asyncio.timeout(5):
            while script.open:  # noqa: ASYNC110 - the kernel tells of a closed connection when it likes
                await asyncio.sleep(0.001)


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def test_what_is_sent() -> None:
    async with scripted(OK, OK) as (script, origin, client):
        await client.request(origin, "GET", "/a?b", {"accept": "*/*"})
        await client.request(origin, "POST", "/a", {"host": "other"})
    assert script.requests[0] == f"GET /a?b HTTP/1.1\r\nhost: {origin.authority}\r\naccept: */*\r\n\r\n".encode()
    assert script.requests[1] == b"POST /a HTTP/1.1\r\nhost: other\r\ncontent-length: 0\r\n\r\n"
    assert script.connections == 1


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", b"x"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
async def test_bodies_of_every_framing_leave_the_connection_usable(answer: bytes, body: bytes) -> None:
    async with scripted(answer, OK) as (script, origin, client):
        assert (await client.request(origin, "GET", "/", {})).body == body
        assert (await client.request(origin, "GET", "/", {})).body == b"ok"
    assert script.connections == 1


async def test_a_body_without_length_ends_with_the_connection() -> None:
    async with scripted(b"HTTP/1.0 200 OK\r\n\r\nall of it", OK, hang_up=True) as (script, origin, client):
        assert (await client.request(origin, "GET", "/", {})).body == b"all of it"
        assert (await client.request(origin, "GET", "/", {})).body == b"ok"
    assert script.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nhalf a he",
        b"no http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 3_000 + b"content-length: 0\r\n\r\n",
    ],
)
async def test_an_answer_cut_short_is_a_connection_error(answer: bytes) -> None:
    async with scripted(answer, hang_up=True) as (_, origin, client):
        with pytest.raises(ConnectionError):
            await client.request(origin, "GET", "/", {})


async def test_a_piecewise_body_cut_short_is_told_after_what_came() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"
    async with scripted(answer, hang_up=True) as (_, origin, client):
        body = await client.open(origin, "GET", "/", {})
        assert await body.read() == b"short"
        with pytest.raises(ConnectionError):
            await body.read()
        await body.close()


@pytest.mark.parametrize(("method", "sent"), [("GET", 3), ("POST", 2)])
async def test_only_what_does_no_harm_is_sent_again(method: str, sent: int) -> None:
    async with scripted(OK, None, OK) as (script, origin, client):
        await client.request(origin, method, "/", {})
        if method == "POST":
            with pytest.raises(ConnectionError):
                await client.request(origin, method, "/", {})
        else:
            assert (await client.request(origin, method, "/", {})).status == 200
    assert len(script.requests) == sent


async def test_repeated_headers_are_joined_and_kept_apart() -> None:
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nset-cookie: b\r\ncontent-length: 0\r\n\r\n"
    async with scripted(answer) as (_, origin, client):
        got = await client.request(origin, "GET", "/", {})
    assert got.headers["set-cookie"] == "a, b"
    assert [value for name, value in got.pairs if name == "set-cookie"] == ["a", "b"]


async def test_bytes_after_a_101_belong_to_the_stream() -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: Upgrade\r\n\r\nearly"
    async with scripted(answer) as (_, origin, client):
        got, stream = await client.upgrade(origin, "GET", "/", {"connection": "Upgrade", "upgrade": "x"})
        assert got.status == 101
        assert stream is not None
        assert await stream.read() == b"early"
        await stream.close()


async def test_a_connection_idle_for_long_is_not_used_again() -> None:
    async with scripted(OK, OK) as (script, origin, _):
        clock = FakeClock()
        client = HttpClient(clock=clock, idle_seconds=60)
        await client.request(origin, "GET", "/", {})
        await clock.advance(61)
        await client.request(origin, "GET", "/", {})
        assert script.connections == 2
        await client.close()


async def test_a_cancelled_request_takes_its_connection_along() -> None:
    async with scripted(OK) as (script, origin, client):
        script.answers.insert(0, b"")
        asking = asyncio.get_running_loop().create_task(client.request(origin, "GET", "/", {}))
        async with asyncio.timeout(5):
            while not script.requests:  # noqa: ASYNC110 - the kernel tells of what was sent when it likes
                await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (await client.request(origin, "GET", "/", {})).status == 200
        assert script.connections == 2


async def test_a_closed_client_connects_no_more() -> None:
    async with scripted() as (_, origin, client):
        await client.close()
        with pytest.raises(ConnectionError, match="the client is closed"):
            await client.request(origin, "GET", "/", {})
