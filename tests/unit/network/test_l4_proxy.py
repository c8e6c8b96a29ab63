"""Real connections through the proxy: both ways, half-close, back-pressure, failing endpoints, dialled endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from anynode.aio.clock import SystemClock
from anynode.api.objects import ObjectKey
from anynode.api.wire import ByteStream
from anynode.network import splice
from anynode.network.l4_proxy import L4Proxy
from anynode.network.routing import Balancer, Endpoint, Listen, Route

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port that nobody listens on, and that nobody else can take."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def balancer(*ports: int) -> Balancer:
    endpoints = tuple(Endpoint("127.0.0.1", port) for port in ports)
    listen = Listen("127.0.0.1", free_port())
    return Balancer(Route(listen=listen, service=ObjectKey("d", "s"), port_name="", endpoints=endpoints))


@contextlib.asynccontextmanager
async def backend(serve: Serve) -> AsyncIterator[int]:
    async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(whole, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only after the client has ended its direction."""
    data = await reader.read()
    writer.write(data.upper())
    await writer.drain()


async def ask(listen: Listen, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(listen.address, listen.port)
    try:
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def settled(proxy: L4Proxy) -> None:
    async with asyncio.timeout(5):
        while proxy.connections:  # noqa: ASYNC110 - the kernel tells of a closed connection when it likes
            await asyncio.sleep(0.001)


async def until_connected(proxy: L4Proxy) -> None:
    async with asyncio.timeout(5):
        while not proxy.connections:  # noqa: ASYNC110 - the kernel tells of a new connection when it likes
            await asyncio.sleep(0.001)


async def test_half_close_and_big_bodies_pass() -> None:
    async with backend(shout) as port, L4Proxy(clock=SystemClock()) as proxy:
        chosen = balancer(port)
        await proxy.listen(chosen.route.listen, chosen)
        data = b"abc" * 1_000_000
        assert await ask(chosen.route.listen, data) == data.upper()
        answers = await asyncio.gather(*[ask(chosen.route.listen, b"x%d" % number) for number in range(50)])
        assert answers == [b"X%d" % number for number in range(50)]
        await settled(proxy)


async def test_the_server_may_speak_first_and_end_first() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")

    async with backend(greet) as port, L4Proxy(clock=SystemClock()) as proxy:
        chosen = balancer(port)
        await proxy.listen(chosen.route.listen, chosen)
        reader, writer = await asyncio.open_connection("127.0.0.1", chosen.route.listen.port)
        assert await reader.read() == b"hello"
        writer.close()
        await settled(proxy)


async def test_a_slow_reader_slows_the_sender_down() -> None:
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for _ in range(1000):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000

    async with backend(pour) as port, L4Proxy(clock=SystemClock()) as proxy:
        chosen = balancer(port)
        await proxy.listen(chosen.route.listen, chosen)
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", chosen.route.listen.port))
            before = -1
            while sent != before or not sent:
                before = sent
                await asyncio.sleep(0.05)
            assert 0 < sent < 50_000_000
            received = 0
            while data := await loop.sock_recv(sock, 1 << 20):
                received += len(data)
            assert received == 100_000_000


async def test_dead_endpoints_are_passed_over_and_none_resets() -> None:
    async with backend(shout) as port, L4Proxy(clock=SystemClock()) as proxy:
        with refusing_port() as dead:
            chosen = balancer(dead, port)
            await proxy.listen(chosen.route.listen, chosen)
            assert [await ask(chosen.route.listen, b"a") for _ in range(3)] == [b"A"] * 3
            nobody = balancer(dead)
            await proxy.listen(nobody.route.listen, nobody)
            with pytest.raises(ConnectionResetError):
                await ask(nobody.route.listen, b"a")


@pytest.mark.parametrize("sent", [b"", b"half of it"])
async def test_what_ends_in_disorder_does_not_look_complete(sent: bytes) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(1) == b"a"
        writer.write(sent)
        await writer.drain()
        splice.reset(writer.transport)

    async with backend(break_off) as port, L4Proxy(clock=SystemClock()) as proxy:
        chosen = balancer(port)
        await proxy.listen(chosen.route.listen, chosen)
        reader, writer = await asyncio.open_connection("127.0.0.1", chosen.route.listen.port)
        writer.write(b"a")
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(5):
                await reader.read()
        writer.close()
        await settled(proxy)


async def test_a_silent_client_of_nobody_is_reset_too() -> None:
    async with L4Proxy(clock=SystemClock()) as proxy:
        with refusing_port() as dead:
            nobody = balancer(dead)
            await proxy.listen(nobody.route.listen, nobody)
            reader, writer = await asyncio.open_connection("127.0.0.1", nobody.route.listen.port)
            with pytest.raises(ConnectionResetError):
                async with asyncio.timeout(5):
                    await reader.read()
            writer.close()


async def test_endpoints_may_be_dialled() -> None:
    class Echo:
        def __init__(self) -> None:
            self.queue: asyncio.Queue[bytes] = asyncio.Queue()
            self.closed = False

        async def read(self) -> bytes:
            return await self.queue.get()

        async def write(self, data: bytes) -> None:
            self.queue.put_nowait(data[::-1])

        async def write_eof(self) -> None:
            self.queue.put_nowait(b"")

        async def close(self) -> None:
            self.closed = True

    made: list[tuple[Endpoint, Echo]] = []

    async def dial(endpoint: Endpoint) -> ByteStream:
        if endpoint.port == 1:
            raise ConnectionRefusedError
        made.append((endpoint, Echo()))
        return made[-1][1]

    async with L4Proxy(clock=SystemClock(), dial=dial) as proxy:
        chosen = balancer(1, 2)
        await proxy.listen(chosen.route.listen, chosen)
        assert await ask(chosen.route.listen, b"abc") == b"cba"
        await settled(proxy)
        assert made[0][0].port == 2
        assert made[0][1].closed


async def test_a_closed_listener_refuses_but_connections_go_on() -> None:
    async with backend(shout) as port, L4Proxy(clock=SystemClock()) as proxy:
        chosen = balancer(port)
        listen = chosen.route.listen
        await proxy.listen(listen, chosen)
        reader, writer = await asyncio.open_connection(listen.address, listen.port)
        writer.write(b"still ")
        await until_connected(proxy)
        proxy.close(listen)
        assert proxy.listening == frozenset()
        with pytest.raises(ConnectionRefusedError):
            await ask(listen, b"x")
        writer.write(b"here")
        writer.write_eof()
        assert await reader.read() == b"STILL HERE"
        writer.close()


async def test_a_port_in_use_is_an_error() -> None:
    async with L4Proxy(clock=SystemClock()) as proxy:
        chosen = balancer(1)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", chosen.route.listen.port))
            sock.listen()
            with pytest.raises(OSError, match="in use"):
                await proxy.listen(chosen.route.listen, chosen)
