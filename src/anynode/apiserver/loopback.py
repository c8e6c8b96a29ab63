"""``LoopbackTransport``: the client library's transport straight onto ``ApiServer.handle``, in the same process.

Objects travel as the dicts themselves, both ways: shared, never changed. A watch is handed the events every other
watcher gets; a reader that falls ``MOST_WAITING`` events behind is closed and watches again.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Sequence

from anynode.api.errors import from_status
from anynode.api.wire import ApiRequest, ApiResponse, ByteReader, ByteStream, User, WatchEvent, WatchSource
from anynode.apiserver.server import IN_PROCESS, ApiServer

MOST_WAITING = 100_000


class LoopbackWatch:
    """A running watch in this process: batches of shared events."""

    def __init__(self, source: WatchSource) -> None:
        self._source = source
        self._waiting: collections.deque[WatchEvent] = collections.deque()
        self._changed = asyncio.Event()
        self._ended = False
        source.start(self)

    def deliver(self, events: Sequence[WatchEvent]) -> bool:
        if self._ended or len(self._waiting) > MOST_WAITING:
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


class LoopbackTransport:
    """A ``client.transport.Transport`` for a server in this process, acting as ``user``."""

    def __init__(self, server: ApiServer, user: User) -> None:
        self._server = server
        self._user = user
        self._closed = False

    async def _ask(self, request: ApiRequest) -> ApiResponse:
        if self._closed:
            raise ConnectionError("the transport is closed")
        request.user = self._user
        request.headers = {**request.headers, IN_PROCESS: "1"}
        response = await self._server.handle(request)
        if response.status >= 400:
            raise from_status(response.decoded() or {}, response.status)
        return response

    async def send(self, request: ApiRequest) -> ApiResponse:
        return await self._ask(request)

    async def watch(self, request: ApiRequest) -> LoopbackWatch:
        response = await self._ask(request)
        if response.watch is None:
            raise ValueError("the request asks for no watch")
        return LoopbackWatch(response.watch)

    async def open(self, request: ApiRequest) -> ByteReader:
        response = await self._ask(request)
        return response.stream if response.stream is not None else _Whole(response.encoded())

    async def upgrade(self, request: ApiRequest) -> tuple[ApiResponse, ByteStream]:
        raise ConnectionError("an upgrade needs a connection")

    async def close(self) -> None:
        self._closed = True


class _Whole:
    """A body that is already there, as a stream."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body

    async def close(self) -> None:
        self._body = b""
