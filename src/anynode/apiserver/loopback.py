"""``LoopbackTransport``: the client library's transport straight onto ``ApiServer.handle``, in the same process.

Objects travel as the dicts themselves, both ways: shared, never changed. A watch is handed the events every other
watcher gets; a reader that falls ``MOST_WAITING`` events behind is closed and watches again.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Sequence

import orjson

from anynode.aio.tasks import Owned
from anynode.api.errors import ApiError, from_status
from anynode.api.wire import ApiRequest, ApiResponse, ByteReader, ByteStream, User, WatchEvent, WatchSource
from anynode.apiserver.server import IN_PROCESS, ApiServer
from anynode.streaming.pump import connected

MOST_WAITING = 100_000


class LoopbackWatch:
    """A running watch in this process: batches of shared events."""

    def __init__(self, source: WatchSource) -> None:
        self._source = source
        self._waiting: collections.deque[WatchEvent] = collections.deque()
        self._changed = asyncio.Event()
        self._ended = False
        self._most = 0
        source.start(self)

    def deliver(self, events: Sequence[WatchEvent]) -> bool:
        if not self._most:
            self._most = MOST_WAITING + len(events)  # a watch may begin with more than may pile up later
        if self._ended or len(self._waiting) > self._most:
            return False
        self._waiting.extend(events)
        self._changed.set()
        return True

    def end(self) -> None:
        self._ended = True
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[Sequence[WatchEvent]]:
        while True:
            while not self._waiting:
                if self._ended:
                    return
                self._changed.clear()
                await self._changed.wait()
            batch = list(self._waiting)
            self._waiting.clear()
            yield batch

    async def close(self) -> None:
        """Stop the watch; safe to call again."""
        self._source.stop()
        self.end()


class StreamedWatch:
    """A watch that another server answers: its lines, decoded."""

    def __init__(self, stream: ByteReader) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[Sequence[WatchEvent]]:
        rest = b""
        while data := await self._stream.read():
            *lines, rest = (rest + data).split(b"\n")
            batch = [_event(line) for line in lines if line.strip()]
            if batch:
                yield batch

    async def close(self) -> None:
        await self._stream.close()


def _event(line: bytes) -> WatchEvent:
    """Raises ``ConnectionError`` for what is no watch event."""
    try:
        said = orjson.loads(line)
        return WatchEvent(said["type"], obj=said["object"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectionError(f"the server sent no watch event: {line[:200]!r}") from error


class LoopbackTransport:
    """A ``client.transport.Transport`` for a server in this process, acting as ``user``."""

    def __init__(self, server: ApiServer, user: User) -> None:
        self._server = server
        self._user = user
        self._closed = False
        self._sessions = Owned("loopback")

    async def _ask(self, request: ApiRequest) -> ApiResponse:
        if self._closed:
            raise ConnectionError("the transport is closed")
        request.user = self._user
        request.headers = {**request.headers, IN_PROCESS: "1"}
        response = await self._server.handle(request)
        if response.status >= 400:
            if response.stream is not None:
                response.body, response.stream = await _all_of(response.stream), None
            raise _refusal(response)
        return response

    async def send(self, request: ApiRequest) -> ApiResponse:
        response = await self._ask(request)
        if response.stream is not None:
            response.body, response.stream = await _all_of(response.stream), None
        return response

    async def watch(self, request: ApiRequest) -> LoopbackWatch | StreamedWatch:
        response = await self._ask(request)
        if response.stream is not None:
            return StreamedWatch(response.stream)
        if response.watch is None:
            raise ValueError("the request asks for no watch")
        return LoopbackWatch(response.watch)

    async def open(self, request: ApiRequest) -> ByteReader:
        response = await self._ask(request)
        return response.stream if response.stream is not None else _Whole(response.encoded())

    async def upgrade(self, request: ApiRequest) -> tuple[ApiResponse, ByteStream]:
        """The 101 answer and the connection; what serves it is a task of this transport."""
        response = await self._ask(request)
        serve = response.upgrade
        if serve is None:
            raise ConnectionError(f"the server answered {response.status} instead of switching protocols")
        near, far = connected()

        async def session() -> None:
            try:
                with contextlib.suppress(ConnectionError):
                    await serve(far)
            finally:
                await far.close()

        self._sessions.start("session", session)
        return response, near

    async def close(self) -> None:
        self._closed = True
        await self._sessions.close()


def _refusal(response: ApiResponse) -> ApiError:
    """The error an answer means; a node or a pod behind a proxy says it in plain text."""
    try:
        said = response.decoded()
    except ValueError:
        said = None
    if not isinstance(said, dict) or said.get("kind") != "Status":
        said = {"message": response.encoded().decode(errors="replace").strip(), "code": response.status}
    return from_status(said, response.status)


async def _all_of(stream: ByteReader) -> bytes:
    parts = []
    try:
        while data := await stream.read():
            parts.append(data)
    finally:
        await stream.close()
    return b"".join(parts)


class _Whole:
    """A body that is already there, as a stream."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body

    async def close(self) -> None:
        self._body = b""
