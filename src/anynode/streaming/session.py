"""One exec or attach session over either protocol, both ends.

``serve`` is the end where the command runs, ``attend`` the user's. Both own the reading task and leave nothing behind.
When the user leaves, the work is cancelled; when the work ends, its Status goes out last and the user is given a moment
to hang up, so that nothing sent before is lost. Source: cri-streaming ``pkg/streaming/remotecommand``, 1.36.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from anynode.api.objects import Object
from anynode.api.wire import ByteReader
from anynode.streaming import remotecommand
from anynode.streaming.multiplex import Channels, SpdyChannels
from anynode.streaming.remotecommand import Channel, Wants

CREATION_SECONDS = 30.0
"""How long the user has to open the streams the request announced."""
LINGER_SECONDS = 1.0


class Session:
    """The user's side, as the command sees it: satisfies all of ``provider.ExecIO`` but the type of a size."""

    def __init__(self, channels: Channels, wants: Wants) -> None:
        self.stdin = wants.stdin
        self.stdout = wants.stdout
        self.stderr = wants.stderr and not wants.tty
        self.tty = wants.tty
        self._channels = channels
        self._sizes = remotecommand.SizeReader()
        self._waiting_sizes: list[tuple[int, int]] = []

    async def read_stdin(self) -> bytes:
        """The user's next bytes; empty at their end."""
        return await self._channels.inbox(Channel.STDIN).read() if self.stdin else b""

    async def write_stdout(self, data: bytes) -> None:
        if self.stdout and data:
            await self._channels.write(Channel.STDOUT, data)

    async def write_stderr(self, data: bytes) -> None:
        if self.stderr and data:
            await self._channels.write(Channel.STDERR, data)

    async def next_size(self) -> tuple[int, int] | None:
        """(width, height) of the terminal; None when no more will come."""
        while not self._waiting_sizes:
            data = await self._channels.inbox(Channel.RESIZE).read()
            if not data:
                return None
            self._waiting_sizes = self._sizes.feed(data)
        return self._waiting_sizes.pop(0)


Work = Callable[[Session], Awaitable[Object]]
"""Runs the command with the session and returns its Status."""


async def serve(channels: Channels, wants: Wants, work: Work) -> None:
    """Carry a session from the first byte to the last; returns when it is over and the connection closed."""
    try:
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(channels.run())
            try:
                if await _begun(channels, wants):
                    status = await _until_left(tasks, channels, work(Session(channels, wants)))
                    if status is not None:
                        await _finish(channels, status)
            except ConnectionError:
                pass  # the user is gone; there is nobody to tell
            finally:
                reading.cancel()
    finally:
        await channels.close()


async def _begun(channels: Channels, wants: Wants) -> bool:
    """Whether the user is there with all streams announced."""
    if isinstance(channels, SpdyChannels):
        try:
            async with asyncio.timeout(CREATION_SECONDS):
                return await channels.expect(wants.channels(channels.protocol))
        except TimeoutError:
            return False
    first = Channel.STDOUT if wants.stdout else Channel.STDERR if wants.stderr else Channel.ERROR
    await channels.write(first, b"")  # tells the user that the session is there
    return True


async def _until_left(tasks: asyncio.TaskGroup, channels: Channels, work: Awaitable[Object]) -> Object | None:
    """The work's Status; None when the user left first (the work is then cancelled and over)."""

    async def done() -> Object:
        return await work

    working, leaving = tasks.create_task(done()), tasks.create_task(channels.left.wait())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait((working,))
    return None if working.cancelled() else working.result()


async def _finish(channels: Channels, status: Object) -> None:
    for channel in (Channel.STDIN, Channel.RESIZE):
        await channels.inbox(channel).close()
    data = remotecommand.encode_status(channels.protocol, status)
    if data:
        await channels.write(Channel.ERROR, data)
    if isinstance(channels, SpdyChannels):
        for channel in (Channel.STDOUT, Channel.STDERR, Channel.ERROR):
            await channels.end(channel)
    await channels.say_goodbye()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            await channels.left.wait()


Take = Callable[[bytes], Awaitable[None]]


async def attend(
    channels: Channels,
    wants: Wants,
    *,
    stdin: ByteReader | None = None,
    stdout: Take | None = None,
    stderr: Take | None = None,
    sizes: AsyncIterator[tuple[int, int]] | None = None,
) -> Object:
    """Be the user of a session; returns its Status. Raises ``ConnectionError`` when it was cut before its end."""
    try:
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(channels.run())]
            if isinstance(channels, SpdyChannels):
                await channels.open_all(wants.channels(channels.protocol))
            if stdin is not None and wants.stdin:
                background.append(tasks.create_task(_send_stdin(channels, stdin)))
            if sizes is not None and wants.tty:
                background.append(tasks.create_task(_send_sizes(channels, sizes)))
            outputs = [
                tasks.create_task(_take_all(channels.inbox(channel), take))
                for channel, take in ((Channel.STDOUT, stdout), (Channel.STDERR, stderr))
            ]
            said = b"".join([data async for data in _pieces(channels.inbox(Channel.ERROR))])
            await asyncio.wait(outputs)
            for task in background:
                task.cancel()
    finally:
        await channels.close()
    if not said and remotecommand.tells_status(channels.protocol):
        raise ConnectionResetError("the session ended without a status")
    return remotecommand.decode_status(channels.protocol, said)


async def _pieces(reader: ByteReader) -> AsyncIterator[bytes]:
    while data := await reader.read():
        yield data


async def _take_all(reader: ByteReader, take: Take | None) -> None:
    async for data in _pieces(reader):
        if take is not None:
            await take(data)


async def _send_stdin(channels: Channels, stdin: ByteReader) -> None:
    with contextlib.suppress(ConnectionError):
        async for data in _pieces(stdin):
            await channels.write(Channel.STDIN, data)
        await channels.end(Channel.STDIN)


async def _send_sizes(channels: Channels, sizes: AsyncIterator[tuple[int, int]]) -> None:
    with contextlib.suppress(ConnectionError):
        async for width, height in sizes:
            await channels.write(Channel.RESIZE, remotecommand.encode_size(width, height))
