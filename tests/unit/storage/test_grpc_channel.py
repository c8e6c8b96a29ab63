"""The channel against a server that is written down frame by frame: flow control, ends of every kind, and nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from anynode.storage.grpc_channel import PREFACE, UNAVAILABLE, GrpcChannel, GrpcError, frame

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
OK = b"\x88"  # :status 200
Play = Callable[["Peer"], Awaitable[None]]


def literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


GOOD = literal(b"grpc-status", b"0")


def message(content: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(content)) + content


class Peer:
    """The server's end: frames in, bytes out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def frame(self, *kinds: int) -> tuple[int, int, int, bytes]:
        """The next frame of one of ``kinds``."""
        while True:
            head = await self.reader.readexactly(9)
            payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] in kinds:
                return head[3], head[4], int.from_bytes(head[5:], "big"), payload

    async def request(self) -> tuple[int, bytes]:
        """(stream, bytes) of the next request that is whole."""
        content = b""
        while True:
            _, flags, stream, payload = await self.frame(DATA)
            content += payload
            if flags & 1:
                return stream, content[5:]

    def send(self, *content: bytes) -> None:
        self.writer.write(b"".join(content))


@contextlib.asynccontextmanager
async def playing(play: Play) -> AsyncIterator[GrpcChannel]:
    """A channel to a server that does ``play`` with its one connection."""
    failure: list[BaseException] = []
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            assert await reader.readexactly(len(PREFACE)) == PREFACE
            await play(Peer(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except AssertionError as error:
            failure.append(error)
        finally:
            writer.close()
            done.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, asyncio.timeout(10):
        channel = await GrpcChannel.connect("127.0.0.1", server.sockets[0].getsockname()[1])
        try:
            yield channel
        finally:
            channel.close()
            await done.wait()
            await asyncio.sleep(0)
    if failure:
        raise failure[0]


async def test_calls_are_answered_out_of_order_and_in_pieces() -> None:
    async def play(peer: Peer) -> None:
        peer.send(frame(SETTINGS, 0, 0))
        first, second = await peer.request(), await peer.request()
        for stream, content in (second, first):
            whole = frame(HEADERS, 4, stream, OK) + frame(DATA, 8, stream, b"\x03" + message(content * 2) + b"pad")
            for byte in whole + frame(HEADERS, 1, stream, GOOD[:5]) + frame(CONTINUATION, 4, stream, GOOD[5:]):
                peer.send(bytes((byte,)))
                await peer.writer.drain()
        await peer.frame(GOAWAY)

    async with playing(play) as channel:
        answers = await asyncio.gather(channel.unary("/s/a", b"one"), channel.unary("/s/b", b"two"))
        assert answers == [b"oneone", b"twotwo"]


async def test_a_large_request_waits_for_the_servers_windows() -> None:
    async def play(peer: Peer) -> None:
        peer.send(frame(SETTINGS, 0, 0, struct.pack(">HIHI", 4, 10, 5, 16_384)))
        await peer.frame(SETTINGS)  # the client's own
        await peer.frame(SETTINGS)  # its answer to ours
        _, _, small, _ = await peer.frame(HEADERS)
        taken = b""
        while len(taken) < 105:
            _, flags, stream, payload = await peer.frame(DATA)
            taken += payload
            assert len(payload) <= 10
            assert bool(flags & 1) == (len(taken) == 105)
            peer.send(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 10)))
        assert taken == message(b"x" * 100)
        peer.send(frame(HEADERS, 4, small, OK), frame(DATA, 0, small, message(b"ok")), frame(HEADERS, 5, small, GOOD))
        await peer.frame(GOAWAY)

    async with playing(play) as channel:
        await asyncio.sleep(0.05)  # let the settings come first
        assert await channel.unary("/s/a", b"x" * 100) == b"ok"


async def test_what_the_server_refuses_is_told() -> None:
    async def play(peer: Peer) -> None:
        stream, _ = await peer.request()
        trailers = literal(b"grpc-status", b"11") + literal(b"grpc-message", b"gone %C3%BC")
        peer.send(frame(HEADERS, 5, stream, OK + trailers))
        stream, _ = await peer.request()
        peer.send(frame(RST_STREAM, 0, stream, struct.pack(">I", 7)))
        stream, _ = await peer.request()
        peer.send(frame(HEADERS, 5, stream, literal(b":status", b"503")))
        stream, _ = await peer.request()
        peer.send(frame(HEADERS, 5, stream, OK + GOOD))
        stream, _ = await peer.request()
        peer.send(frame(GOAWAY, 0, 0, bytes(8) + b"bye"))

    async with playing(play) as channel:
        said: list[tuple[int, str]] = []
        for _ in range(6):
            with pytest.raises(GrpcError) as refused:
                await channel.unary("/s/a", b"")
            said.append((refused.value.code, refused.value.message))
        assert said == [
            (11, "gone ü"),
            (UNAVAILABLE, "the server reset the call (7)"),
            (UNAVAILABLE, "HTTP status 503"),
            (13, "the server answered nothing"),
            (UNAVAILABLE, "bye"),
            (UNAVAILABLE, "bye"),
        ]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frame(HEADERS, 4, 1, b"\xff\xff"),
        frame(WINDOW_UPDATE, 0, 0, b"x"),
    ],
)
async def test_nonsense_ends_the_connection(nonsense: bytes) -> None:
    async def play(peer: Peer) -> None:
        await peer.frame(HEADERS)
        peer.send(nonsense)

    async with playing(play) as channel:
        with pytest.raises(GrpcError):
            await channel.unary("/s/a", b"")
        await channel.closed.wait()


async def test_pings_both_ways_and_a_lost_connection() -> None:
    async def play(peer: Peer) -> None:
        peer.send(frame(PING, 0, 0, b"12345678"))
        seen = [await peer.frame(PING), await peer.frame(PING)]
        assert (1, b"12345678") in [(flags, payload) for _, flags, _, payload in seen]
        ours = next(payload for _, flags, _, payload in seen if not flags)
        peer.send(frame(PING, 1, 0, ours))
        await peer.frame(PING)

    async with playing(play) as channel:
        await channel.ping()
        with pytest.raises(GrpcError, match=r"closed by the server|connection lost"):
            await channel.ping()


async def test_a_stream_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def play(peer: Peer) -> None:
        _, _, stream, _ = await peer.frame(HEADERS)
        await peer.frame(DATA)
        peer.send(frame(HEADERS, 4, stream, OK), frame(DATA, 0, stream, message(b"1") + message(b"2")))
        assert (await peer.frame(RST_STREAM))[2] == stream
        cancelled.set()

    async with playing(play) as channel:
        heard: list[bytes] = []
        both = asyncio.Event()

        def hear(content: bytes) -> None:
            heard.append(content)
            if len(heard) == 2:
                both.set()

        call = channel.stream("/s/w", hear, lambda error: heard.append(b"ended"))
        assert call is not None
        call.send(b"go")
        await both.wait()
        call.cancel()
        call.cancel()
        await cancelled.wait()
        assert heard == [b"1", b"2"]
