"""Both ends of exec and port-forward against each other, over every protocol, on connections in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import orjson
import pytest

from anynode.api.objects import Object
from anynode.streaming import portforward, remotecommand, session, websocket
from anynode.streaming.multiplex import Channels, SpdyChannels, WebSocketChannels, WebSocketTunnel
from anynode.streaming.pump import PipedStream, connected
from anynode.streaming.remotecommand import Channel, Wants


class Source:
    """The user's standard input."""

    def __init__(self, *pieces: bytes, endless: bool = False) -> None:
        self._pieces = list(pieces)
        self._endless = endless

    async def read(self) -> bytes:
        if self._pieces:
            return self._pieces.pop(0)
        if self._endless:
            await asyncio.Event().wait()
        return b""

    async def close(self) -> None:
        pass


class Sink:
    def __init__(self) -> None:
        self.data = b""

    async def __call__(self, data: bytes) -> None:
        self.data += data


Ends = Callable[[Wants], tuple[Channels, Channels]]


def over_websocket(protocol: str) -> Ends:
    def make(wants: Wants) -> tuple[Channels, Channels]:
        near, far = connected()
        incoming = frozenset({Channel.STDIN, Channel.RESIZE})
        outgoing = frozenset({Channel.STDOUT, Channel.STDERR, Channel.ERROR})
        return (
            WebSocketChannels(near, protocol=protocol, client=True, incoming=outgoing),
            WebSocketChannels(far, protocol=protocol, client=False, incoming=incoming),
        )

    return make


def over_spdy(protocol: str) -> Ends:
    def make(wants: Wants) -> tuple[Channels, Channels]:
        near, far = connected()
        return (
            SpdyChannels(near, protocol=protocol, client=True),
            SpdyChannels(far, protocol=protocol, client=False),
        )

    return make


EVERY = [
    pytest.param(over_websocket(remotecommand.V5), id="websocket-v5"),
    pytest.param(over_spdy(remotecommand.V4), id="spdy-v4"),
]
WITHOUT_HALF_CLOSE = [
    *EVERY,
    pytest.param(over_websocket(remotecommand.V4), id="websocket-v4"),
    pytest.param(over_websocket(remotecommand.V4_BASE64), id="websocket-v4-base64"),
]
ALL = Wants(stdin=True, stdout=True, stderr=True)


async def run(
    ends: Ends, wants: Wants, work: session.Work, *, stdin: Source | None = None,
    sizes: AsyncIterator[tuple[int, int]] | None = None,
) -> tuple[Object, bytes, bytes]:  # fmt: skip
    near, far = ends(wants)
    out, err = Sink(), Sink()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(session.serve(far, wants, work))
        status = await session.attend(near, wants, stdin=stdin, stdout=out, stderr=err, sizes=sizes)
    return status, out.data, err.data


@pytest.mark.parametrize("ends", WITHOUT_HALF_CLOSE)
async def test_output_and_exit_code_arrive(ends: Ends) -> None:
    async def work(user: session.Session) -> Object:
        await user.write_stdout(b"o" * 200_000)
        await user.write_stderr(b"err")
        return remotecommand.exit_status(7)

    status, out, err = await run(ends, ALL, work)
    assert (out, err) == (b"o" * 200_000, b"err")
    assert remotecommand.exit_code_of(status) == 7
    assert status["message"] == "command terminated with non-zero exit code: exit status 7"


@pytest.mark.parametrize("ends", EVERY)
async def test_standard_input_arrives_whole_and_ends(ends: Ends) -> None:
    async def work(user: session.Session) -> Object:
        got = b""
        while data := await user.read_stdin():
            got += data
        await user.write_stdout(got[::-1])
        return remotecommand.success()

    status, out, _ = await run(ends, ALL, work, stdin=Source(b"x" * 300_000, b"end"))
    assert out == b"dne" + b"x" * 300_000
    assert status["status"] == "Success"


@pytest.mark.parametrize("ends", EVERY)
async def test_the_terminals_size_is_told(ends: Ends) -> None:
    async def sizes() -> AsyncIterator[tuple[int, int]]:
        yield 80, 24
        yield 120, 40

    async def work(user: session.Session) -> Object:
        seen = [await user.next_size(), await user.next_size()]
        await user.write_stdout(repr(seen).encode())
        await user.write_stderr(b"there is no stderr with a terminal")
        return remotecommand.success()

    wants = Wants(stdin=True, stdout=True, tty=True)
    _, out, err = await run(ends, wants, work, stdin=Source(endless=True), sizes=sizes())
    assert (out, err) == (b"[(80, 24), (120, 40)]", b"")


@pytest.mark.parametrize("ends", WITHOUT_HALF_CLOSE)
async def test_when_the_user_leaves_the_work_is_cancelled(ends: Ends) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def work(user: session.Session) -> Object:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return remotecommand.success()

    near, far = ends(ALL)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(session.serve(far, ALL, work))
        attending = tasks.create_task(session.attend(near, ALL, stdin=Source(endless=True)))
        await began.wait()
        attending.cancel()
        await serving
    assert cancelled.is_set()


@pytest.mark.parametrize("ends", EVERY)
async def test_a_session_cut_short_is_a_connection_error(ends: Ends) -> None:
    near, far = ends(ALL)

    async def cut() -> None:
        reading = asyncio.create_task(far.run())
        await asyncio.sleep(0)
        await far.close()
        await reading

    cutting = asyncio.create_task(cut())
    with pytest.raises((ConnectionError, ExceptionGroup)):
        await session.attend(near, ALL)
    await cutting


class HungUp:
    """A peer that said all it had to say and takes nothing more."""

    def __init__(self, *said: bytes) -> None:
        self._said = list(said)

    async def read(self) -> bytes:
        return self._said.pop(0) if self._said else b""

    async def write(self, data: bytes) -> None:
        raise ConnectionResetError

    async def write_eof(self) -> None:
        pass

    async def close(self) -> None:
        pass


async def test_what_a_peer_said_before_it_hung_up_counts() -> None:
    server = websocket.WebSocket(client=False)
    server.send(b"\3" + orjson.dumps(remotecommand.exit_status(4)))
    server.close()
    incoming = frozenset({Channel.ERROR})
    stream = HungUp(server.data_to_send())
    channels = WebSocketChannels(stream, protocol=remotecommand.V5, client=True, incoming=incoming)
    status = await session.attend(channels, ALL)
    assert remotecommand.exit_code_of(status) == 4


async def test_without_streams_a_spdy_session_does_not_begin() -> None:
    near, far = connected()

    async def work(user: session.Session) -> Object:
        raise AssertionError("nobody is there")

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(session.serve(SpdyChannels(far, protocol=remotecommand.V4, client=False), ALL, work))
        await near.close()


@pytest.mark.parametrize(
    ("protocol", "status", "expected"),
    [
        (remotecommand.V1, remotecommand.success(), b""),
        (remotecommand.V1, remotecommand.failure("no"), b"Internal error occurred: no"),
    ],
)
def test_old_protocols_tell_the_end_in_words(protocol: str, status: Object, expected: bytes) -> None:
    assert remotecommand.encode_status(protocol, status) == expected
    assert remotecommand.exit_code_of(remotecommand.decode_status(protocol, expected)) == (None if expected else 0)


def test_sizes_may_be_cut_anywhere_and_nonsense_is_dropped() -> None:
    reader = remotecommand.SizeReader()
    assert reader.feed(b'{"Width":1,"Hei') == []
    assert reader.feed(b'ght":2}{"x":1}{"Width":3,"Height":4}') == [(1, 2), (3, 4)]


Dial = Callable[[int], Awaitable[PipedStream]]


class Pod:
    """Port 80 answers in capitals and hangs up at the end; any other refuses."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks

    async def dial(self, port: int) -> PipedStream:
        if port != 80:
            raise ConnectionRefusedError("connection refused")
        near, far = connected()
        self._tasks.create_task(self._serve(far))
        return near

    async def _serve(self, stream: PipedStream) -> None:
        while data := await stream.read():
            await stream.write(data.upper())
        await stream.write(b"!")
        await stream.close()


@pytest.mark.parametrize("tunnel", [False, True], ids=["spdy", "websocket-tunnel"])
async def test_ports_are_forwarded_many_at_a_time(tunnel: bool) -> None:
    near, far = connected()
    one = WebSocketTunnel(near, client=True) if tunnel else near
    other = WebSocketTunnel(far, client=False) if tunnel else far
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        pod = Pod(tasks)
        tasks.create_task(portforward.Server(other, pod.dial, lambda port, error: f"port {port}: {error}").run())
        client = portforward.Client(one)
        tasks.create_task(client.run())
        connections = [await client.connect(80) for _ in range(5)]
        for index, connection in enumerate(connections):
            await connection.write(b"hello %d" % index)
        for index, connection in enumerate(connections):
            assert await connection.read() == b"HELLO %d" % index
            await connection.write_eof()
            assert await connection.read() == b"!"
            assert await connection.read() == b""
        refused = await client.connect(81)
        with pytest.raises(portforward.PortForwardRefused, match="port 81: connection refused"):
            await refused.read()
        await client.close()


async def test_old_websockets_forward_the_ports_they_name() -> None:
    near, far = connected()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        pod = Pod(tasks)
        explain: portforward.Explain = lambda port, error: f"port {port}: {error}"  # noqa: E731
        tasks.create_task(portforward.serve_channels(far, remotecommand.V4, [80, 81], pod.dial, explain))
        client = WebSocketChannels(near, protocol=remotecommand.V4, client=True, incoming=frozenset(range(4)))
        reading = tasks.create_task(client.run())
        got = b""
        while b"connection refused" not in got:
            got += await client.inbox(3).read()
        assert got == b"\x51\0port 81: connection refused"
        assert await client.inbox(0).read() == b"\x50\0"
        await client.write(0, b"hi")
        assert await client.inbox(0).read() == b"HI"
        await client.close()
        reading.cancel()
