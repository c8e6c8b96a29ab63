"""An HTTP/1.1 server: a listener that turns requests into calls of one handler.

Knows nothing of Kubernetes. One long-lived task per connection, none per request; keep-alive, pipelining, chunked
bodies, Expect, pushed and streamed responses, upgrades, TLS with client certificates (``aio.tls``). ALPN offers
http/1.1 only. Limits: head and body size, idle time, time to send a head; stopping is graceful and bounded.
Source: RFC 9112; limits as Go's net/http and kube-apiserver have them.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import socket
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Self

from anynode.aio.clock import Clock
from anynode.aio.http_connection import Handler, ServerConnection
from anynode.aio.http_message import HttpResponse
from anynode.aio.http_stream import Flusher

MAX_HEAD_BYTES = 1 << 20
IDLE_SECONDS = 90.0
HEAD_SECONDS = 32.0
SWEEP_SECONDS = 5.0
STREAM_SECONDS = 0.3
"""How long a streamed body may go on when the server stops: long for a file, short for a followed log."""
BACKLOG = 1024


class HttpServer:
    """A listener; use as ``async with HttpServer(handler, ...) as server``, which returns when it listens."""

    def __init__(
        self,
        handler: Handler,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl: ssl.SSLContext | None = None,
        max_body_bytes: int = 3 * 1024 * 1024,
        clock: Clock,
        sock: socket.socket | None = None,
        on_too_large: Callable[[], HttpResponse] | None = None,
        max_head_bytes: int = MAX_HEAD_BYTES,
        idle_seconds: float = IDLE_SECONDS,
        stop_seconds: float = 5.0,
    ) -> None:
        self.handler = handler
        self.max_body_bytes = max_body_bytes
        self.max_head_bytes = max_head_bytes
        self.host = host
        self.port = port
        self._ssl = ssl
        self._sock = sock
        self._clock = clock
        self.now = clock.monotonic
        self._on_too_large = on_too_large
        self._idle_seconds = idle_seconds
        self._stop_seconds = stop_seconds
        self._connections: set[ServerConnection] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        """Tasks whose client is gone: ending, or with a handler that has not ended yet."""
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._emptied = asyncio.Event()
        self._date = ""
        self._date_until = float("-inf")
        if ssl is not None:
            ssl.set_alpn_protocols(["http/1.1"])

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self.flusher = Flusher(loop)

        def connection() -> ServerConnection:
            return ServerConnection(self, loop)

        if self._sock is not None:
            self._server = await loop.create_server(connection, sock=self._sock, ssl=self._ssl, backlog=BACKLOG)
        else:
            self._server = await loop.create_server(
                connection, self.host, self.port, ssl=self._ssl, backlog=BACKLOG, reuse_address=True
            )
        self.port = self._server.sockets[0].getsockname()[1]
        self._sweeper = loop.create_task(self._sweep(), name=f"http/{self.port}/sweep")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        assert self._sweeper is not None
        self._sweeper.cancel()
        self._server.close()
        tasks = {connection.task for connection in self._connections if connection.task is not None}
        for connection in tuple(self._connections):
            connection.stop()
        if not await self._empty(min(STREAM_SECONDS, self._stop_seconds)):
            for connection in tuple(self._connections):
                connection.cut()
        if not await self._empty(self._stop_seconds):
            for connection in tuple(self._connections):
                connection.abort()
            await self._empty(1.0)
        for task in self._leaving:
            task.cancel()
        await asyncio.wait({self._sweeper, *tasks, *self._leaving}, timeout=1.0)

    async def _empty(self, seconds: float) -> bool:
        """Whether all connections ended within ``seconds``, which are real ones: it is the kernel we wait for."""
        self._emptied.clear()
        if self._connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._emptied.wait()
        return not self._connections

    async def _sweep(self) -> None:
        """Close connections whose client has been silent for too long."""
        while True:
            await self._clock.sleep(min(SWEEP_SECONDS, self._idle_seconds / 2))
            now = self.now()
            for connection in tuple(self._connections):
                if connection.busy:
                    continue
                silent_seconds = now - connection.since
                if silent_seconds >= self._idle_seconds or (
                    connection.waiting_for_head and silent_seconds >= HEAD_SECONDS
                ):
                    connection.abort()

    # What connections ask of their server

    @property
    def connections(self) -> int:
        return len(self._connections)

    def opened(self, connection: ServerConnection) -> None:
        self._connections.add(connection)

    def closed(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        task = connection.task
        if task is not None and not task.done():
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        if not self._connections:
            self._emptied.set()

    def date(self) -> str:
        """The Date header line; made anew at most once a second."""
        now = self.now()
        if now >= self._date_until:
            self._date_until = now + 1.0
            self._date = f"date: {email.utils.format_datetime(self._clock.now(), usegmt=True)}\r\n"
        return self._date

    def too_large(self) -> HttpResponse:
        if self._on_too_large is not None:
            return self._on_too_large()
        return HttpResponse(status=413, headers={"content-type": "text/plain"}, body=b"request body too large\n")
