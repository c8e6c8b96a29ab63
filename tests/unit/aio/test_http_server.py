"""The server spoken to by the client and by hand-written bytes, over real sockets, with and without TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from anynode.aio import tls
from anynode.aio.clock import SystemClock
from anynode.aio.http_client import HttpClient, Origin
from anynode.aio.http_message import ByteStream, HttpRequest, HttpResponse, PushSink, frame_chunk
from anynode.aio.http_server import HttpServer
from anynode.testing.clock import FakeClock


class Pieces:
    """A body in pieces that can be followed and notices being closed."""

    def __init__(self, *pieces: bytes, endless: bool = False) -> None:
        self.pieces = list(pieces)
        self.endless = endless
        self.closed = asyncio.Event()

    async def read(self) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        if self.endless:
            await asyncio.Event().wait()
        return b""

    async def close(self) -> None:
        self.closed.set()


class App:
    """A handler with one behaviour per path."""

    def __init__(self) -> None:
        self.sinks: list[PushSink] = []
        self.lost = asyncio.Event()
        self.pushing = asyncio.Event()
        self.hanging = asyncio.Event()
        self.endless = Pieces(b"first", endless=True)
        self.tasks: list[asyncio.Task[None] | None] = []

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        name = request.path.strip("/").replace("-", "_")
        method: Callable[[HttpRequest], Awaitable[HttpResponse]] = getattr(self, name, self.echo)
        return await method(request)

    async def echo(self, request: HttpRequest) -> HttpResponse:
        text = f"{request.method} {request.target} {len(request.body)}"
        return HttpResponse(headers={"content-type": "text/plain"}, body=text.encode())

    async def body(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(body=request.body)

    async def waits(self, request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0.01)
        return HttpResponse(body=b"waited")

    async def timeout_inside(self, request: HttpRequest) -> HttpResponse:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return HttpResponse(status=504)
        return HttpResponse()

    async def task(self, request: HttpRequest) -> HttpResponse:
        before = asyncio.current_task()
        if request.query_string:
            await asyncio.sleep(0)
        self.tasks += [before, asyncio.current_task()]
        return HttpResponse()

    async def fails(self, request: HttpRequest) -> HttpResponse:
        raise RuntimeError("no")

    async def cert(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(body=request.client_cert or b"")

    async def smuggle(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(headers={"x": "a\r\nevil: yes"}, repeated=[("warning", "1"), ("warning", "2")])

    async def push(self, request: HttpRequest) -> HttpResponse:
        def begin(sink: PushSink) -> None:
            sink.on_closed = self.lost.set
            self.sinks.append(sink)
            self.pushing.set()
            sink.write(b"one ")
            sink.write_framed(frame_chunk(b"two"))

        return HttpResponse(push=begin)

    async def stream(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(stream=Pieces(b"a" * 300_000, b"b" * 300_000))

    async def hangs(self, request: HttpRequest) -> HttpResponse:
        self.hanging.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.lost.set()
        return HttpResponse()

    async def follow(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(stream=self.endless)

    async def upgrade(self, request: HttpRequest) -> HttpResponse:
        async def serve(stream: ByteStream) -> None:
            while data := await stream.read():
                await stream.write(b"<" + data + b">")

        return HttpResponse(status=101, headers={"connection": "Upgrade", "upgrade": "test"}, upgrade=serve)


@contextlib.asynccontextmanager
async def serving(
    app: App, *, context: ssl.SSLContext | None = None, max_body_bytes: int = 1 << 20
) -> AsyncIterator[HttpServer]:
    async with HttpServer(
        app, clock=SystemClock(), ssl=context, max_body_bytes=max_body_bytes, stop_seconds=0.2
    ) as server:
        yield server


@pytest.fixture
async def app() -> App:
    return App()


@pytest.fixture
async def server(app: App) -> AsyncIterator[HttpServer]:
    async with serving(app) as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient(clock=SystemClock())
    yield client
    await client.close()


def origin(server: HttpServer) -> Origin:
    return Origin(host="127.0.0.1", port=server.port)


async def raw(server: HttpServer, data: bytes, until: bytes) -> bytes:
    """What the server says to ``data``, up to and with ``until`` (or its hanging up)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(data)
    got = b""
    while until not in got and (more := await reader.read(65536)):
        got += more
    writer.close()
    return got


async def test_a_request_is_answered(server: HttpServer, client: HttpClient) -> None:
    answer = await client.request(origin(server), "GET", "/a%2Fb?x=1&y", {})
    assert (answer.status, answer.body) == (200, b"GET /a%2Fb?x=1&y 0")
    assert answer.headers["content-length"] == "18"
    assert answer.headers["date"].endswith("GMT")


async def test_connections_are_kept(server: HttpServer, client: HttpClient) -> None:
    for _ in range(3):
        await client.request(origin(server), "POST", "/body", {}, b"x")
    assert server.connections == 1


async def test_large_bodies_arrive_whole(server: HttpServer, client: HttpClient) -> None:
    body = bytes(range(256)) * 4000
    assert (await client.request(origin(server), "POST", "/body", {}, body)).body == body


async def test_pipelined_requests_are_answered_in_order(server: HttpServer) -> None:
    request = b"GET /%b HTTP/1.1\r\nhost: x\r\n\r\n"
    got = await raw(server, request % b"waits" + request % b"a" + request % b"waits" + request % b"last", b"/last 0")
    assert [got.find(each) for each in (b"waited", b"GET /a 0", b"GET /last 0")] == sorted(
        got.find(each) for each in (b"waited", b"GET /a 0", b"GET /last 0")
    )
    assert got.count(b"waited") == 2


async def test_more_pipelined_requests_than_are_read_ahead(server: HttpServer) -> None:
    got = await raw(server, b"GET /waits HTTP/1.1\r\n\r\n" * 40 + b"GET /end HTTP/1.1\r\n\r\n", b"/end 0")
    assert got.count(b"waited") == 40


async def test_the_handler_is_one_task_before_and_after_it_waits(
    server: HttpServer, client: HttpClient, app: App
) -> None:
    await client.request(origin(server), "GET", "/task?wait", {})
    await client.request(origin(server), "GET", "/task", {})
    assert app.tasks[0] is not None
    assert set(app.tasks) == {app.tasks[0]}


async def test_a_timeout_that_is_over_at_once_reaches_the_handler(server: HttpServer, client: HttpClient) -> None:
    assert (await client.request(origin(server), "GET", "/timeout-inside", {})).status == 504
    assert (await client.request(origin(server), "GET", "/waits", {})).status == 200
    assert server.connections == 1


async def test_a_failing_handler_is_answered_500_and_logged(
    server: HttpServer, client: HttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await client.request(origin(server), "GET", "/fails", {})).status == 500
    assert "request failed" in caplog.text
    assert (await client.request(origin(server), "GET", "/a", {})).status == 200


@pytest.mark.parametrize("data", [b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"])
async def test_what_is_no_http_is_refused(server: HttpServer, data: bytes) -> None:
    assert (await raw(server, data, b"never")).startswith(b"HTTP/1.1 400 Bad Request\r\n")


async def test_a_head_without_end_is_refused(app: App) -> None:
    async with HttpServer(app, clock=SystemClock(), max_head_bytes=10_000, stop_seconds=0.2) as server:
        got = await raw(server, b"GET / HTTP/1.1\r\nx: " + b"a" * 100_000, b"\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 431 ")


async def test_a_head_without_end_is_refused_behind_a_request_that_waits(app: App) -> None:
    async with HttpServer(app, clock=SystemClock(), max_head_bytes=10_000, stop_seconds=0.2) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /hangs HTTP/1.1\r\n\r\nGET /a HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nx: ")
        await app.hanging.wait()
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(5):
                for _ in range(1_000):
                    writer.write(b"a" * 1_000)
                    await writer.drain()
                assert await reader.read() == b""
        writer.close()


async def test_a_head_of_countless_lines_is_refused_at_once(server: HttpServer) -> None:
    async with asyncio.timeout(5):  # joining them all would take a minute
        with contextlib.suppress(ConnectionError):
            got = await raw(server, b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 200_000 + b"\r\n", b"\r\n\r\n")
            assert got.startswith(b"HTTP/1.1 431 ")


async def test_a_chunked_body_is_joined(server: HttpServer) -> None:
    head = b"POST /body HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
    got = await raw(server, head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde")
    assert got.endswith(b"abcde")


async def test_a_body_is_asked_for_when_the_client_wants_to_be_asked(server: HttpServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST /body HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"ok")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize(
    "head", [b"content-length: 2000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000]
)
async def test_a_body_over_the_limit_never_reaches_the_handler(app: App, head: bytes) -> None:
    async with serving(app, max_body_bytes=1000) as server:
        got = await raw(server, b"POST /body HTTP/1.1\r\n" + head, b"too large")
    assert got.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in got


async def test_head_has_the_length_and_no_body(server: HttpServer, client: HttpClient) -> None:
    answer = await client.request(origin(server), "HEAD", "/abc", {})
    assert (answer.headers["content-length"], answer.body) == ("11", b"")
    assert (await client.request(origin(server), "GET", "/abc", {})).body == b"GET /abc 0"


async def test_no_header_smuggles_in_another(server: HttpServer, client: HttpClient) -> None:
    answer = await client.request(origin(server), "GET", "/smuggle", {})
    assert "evil" not in answer.headers
    assert [pair for pair in answer.pairs if pair[0] == "warning"] == [("warning", "1"), ("warning", "2")]


async def test_pushed_chunks_arrive_while_the_body_is_open(server: HttpServer, client: HttpClient, app: App) -> None:
    body = await client.open(origin(server), "GET", "/push", {})
    got = await body.read()
    while got != b"one two":
        got += await body.read()
    app.sinks[0].write(b"three")
    assert await body.read() == b"three"
    app.sinks[0].close()
    assert await body.read() == b""
    assert (await client.request(origin(server), "GET", "/a", {})).status == 200
    assert server.connections == 1
    assert not app.lost.is_set()


async def test_who_pushes_learns_that_the_client_left(server: HttpServer, client: HttpClient, app: App) -> None:
    body = await client.open(origin(server), "GET", "/push", {})
    await body.read()
    await body.close()
    await asyncio.wait_for(app.lost.wait(), 10)
    app.sinks[0].write(b"nobody")


async def test_a_slow_reader_is_seen_in_what_is_buffered(server: HttpServer, app: App) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
    writer.write(b"GET /push HTTP/1.1\r\n\r\n")
    await asyncio.wait_for(app.pushing.wait(), 10)
    for _ in range(64):
        app.sinks[0].write(b"x" * 1_000_000)
    await asyncio.sleep(0.01)
    assert app.sinks[0].buffered_bytes > 10_000_000
    writer.transport.abort()
    await asyncio.wait_for(app.lost.wait(), 10)


async def test_a_streamed_body_comes_whole(server: HttpServer, client: HttpClient) -> None:
    answer = await client.request(origin(server), "GET", "/stream", {})
    assert answer.body == b"a" * 300_000 + b"b" * 300_000


async def test_a_stream_is_closed_when_the_client_leaves(server: HttpServer, client: HttpClient, app: App) -> None:
    body = await client.open(origin(server), "GET", "/follow", {})
    assert await body.read() == b"first"
    await body.close()
    await asyncio.wait_for(app.endless.closed.wait(), 10)


UPGRADE = {"connection": "Upgrade", "upgrade": "test"}


async def test_an_upgrade_gives_the_raw_connection(server: HttpServer, client: HttpClient) -> None:
    answer, stream = await client.upgrade(origin(server), "POST", "/upgrade", UPGRADE)
    assert (answer.status, answer.headers["upgrade"]) == (101, "test")
    assert stream is not None
    await stream.write(b"hello")
    assert await stream.read() == b"<hello>"
    await stream.write_eof()
    assert await stream.read() == b""
    await stream.close()


async def test_bytes_sent_before_the_101_are_not_lost(server: HttpServer) -> None:
    head = b"GET /upgrade HTTP/1.1\r\nconnection: Upgrade\r\nupgrade: test\r\n\r\n"
    assert (await raw(server, head + b"early", b">")).endswith(b"\r\n\r\n<early>")


async def test_a_refused_upgrade_is_an_ordinary_answer(server: HttpServer, client: HttpClient) -> None:
    answer, stream = await client.upgrade(origin(server), "GET", "/no", UPGRADE)
    assert (answer.status, answer.body, stream) == (200, b"GET /no 0", None)


async def test_stopping_ends_pushes_streams_and_upgrades_in_bounded_time(client: HttpClient, app: App) -> None:
    async with serving(app) as server:
        pushed = await client.open(origin(server), "GET", "/push", {})
        followed = await client.open(origin(server), "GET", "/follow", {})
        _, stream = await client.upgrade(origin(server), "POST", "/upgrade", UPGRADE)
        await client.request(origin(server), "GET", "/idle", {})
        assert server.connections == 4
    assert server.connections == 0
    assert await pushed.read_all() == b"one two"
    assert app.lost.is_set()
    assert app.endless.closed.is_set()
    assert stream is not None
    assert await stream.read() == b""
    await stream.close()
    await followed.close()


async def test_a_handler_whose_client_left_is_ended_when_the_server_stops(app: App) -> None:
    async with serving(app) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /hangs HTTP/1.1\r\n\r\n")
        await asyncio.wait_for(app.hanging.wait(), 10)
        writer.transport.abort()
        await asyncio.sleep(0.01)
        assert not app.lost.is_set()
    assert app.lost.is_set()


async def test_stopping_does_not_wait_for_a_followed_stream(client: HttpClient, app: App) -> None:
    async with asyncio.timeout(20):
        async with HttpServer(app, clock=SystemClock(), stop_seconds=30) as server:
            followed = await client.open(origin(server), "GET", "/follow", {})
            assert await followed.read() == b"first"
        assert app.endless.closed.is_set()
        await followed.close()


async def test_a_silent_client_is_hung_up_on(app: App) -> None:
    clock = FakeClock()
    async with HttpServer(app, clock=clock, idle_seconds=90) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /a HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"/a 0")
        await clock.advance(80)
        assert server.connections == 1
        await clock.advance(20)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_a_head_that_only_drips_is_hung_up_on(app: App) -> None:
    clock = FakeClock()
    async with HttpServer(app, clock=clock) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /a HTTP/1.1\r\n")
        async with asyncio.timeout(10):
            while not server.connections:  # noqa: ASYNC110 - the kernel tells of a new connection when it likes
                await asyncio.sleep(0.001)
        while server.connections and clock.monotonic() < 200:
            writer.write(b"x: y\r\n")
            await clock.advance(10)
        assert clock.monotonic() < 120
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_a_request_on_a_connection_the_server_closed_is_sent_again(client: HttpClient, app: App) -> None:
    async with serving(app) as server:
        port = server.port
        await client.request(origin(server), "GET", "/a", {})
    async with HttpServer(app, clock=SystemClock(), port=port) as server:
        assert (await client.request(origin(server), "GET", "/a", {})).status == 200


async def test_a_server_that_is_not_there_is_a_connection_error(client: HttpClient) -> None:
    with pytest.raises(ConnectionError):
        await client.request(Origin(host="127.0.0.1", port=1), "GET", "/", {})


def self_signed() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return certificate.public_bytes(pem), key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


async def test_tls_with_and_without_a_client_certificate(client: HttpClient, app: App) -> None:
    certificate, key = self_signed()
    async with serving(app, context=tls.server_context(certificate, key, client_ca=certificate)) as server:
        plain = tls.client_context(ca=certificate)
        bare = Origin(host="127.0.0.1", port=server.port, tls=plain, server_name="test")
        assert (await client.request(bare, "GET", "/cert", {})).body == b""
        own = tls.client_context(ca=certificate, certificate=certificate, key=key)
        shown = Origin(host="127.0.0.1", port=server.port, tls=own, server_name="test")
        expected = x509.load_pem_x509_certificate(certificate).public_bytes(serialization.Encoding.DER)
        assert (await client.request(shown, "GET", "/cert", {})).body == expected
        _, stream = await client.upgrade(shown, "POST", "/upgrade", UPGRADE)
        assert stream is not None
        await stream.write(b"x")
        assert await stream.read() == b"<x>"
        await stream.close()
