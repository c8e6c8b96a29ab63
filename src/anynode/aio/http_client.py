"""An HTTP/1.1 client: keep-alive pool per origin, bodies whole or piece by piece, upgrades.

Knows nothing of Kubernetes; makes no tasks. Every failure to reach the server or to get its whole answer is a
``ConnectionError``; every status is an answer. A request on a kept connection that turns out to be closed is sent once
more on a new one when nothing of an answer came and repeating it does no harm.
Source: RFC 9112; Go's net/http Transport.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import ssl
from collections.abc import Mapping, Sequence

from anynode.aio.clock import Clock
from anynode.aio.http_client_connection import ClientConnection, ConnectionBroken
from anynode.aio.http_stream import TransportStream

CONNECT_SECONDS = 30.0
IDLE_SECONDS = 60.0
MOST_BODY_BYTES = 64 << 20
MOST_REFUSAL_BYTES = 1 << 20
MOST_IDLE = 256
SAFE_TO_REPEAT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where requests go. ``tls`` None means plain HTTP; ``server_name`` is checked instead of ``host``, if given."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """An answer, its body read. ``pairs`` are the headers as they came, repeated ones apart."""

    status: int
    headers: Mapping[str, str]
    pairs: Sequence[tuple[str, str]] = ()
    body: bytes = b""


class HttpBody:
    """An answer whose body is read piece by piece; close it (a body read to its end frees the connection at once)."""

    def __init__(self, client: HttpClient, origin: Origin, connection: ClientConnection) -> None:
        self._client = client
        self._origin = origin
        self._connection: ClientConnection | None = connection
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers
        self.pairs: Sequence[tuple[str, str]] = connection.pairs

    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises ``ConnectionError`` when the body is cut short."""
        if self._connection is None:
            return b""
        data = await self._connection.read()
        if not data:
            self._release()
        return data

    async def read_all(self, most_bytes: int = MOST_BODY_BYTES) -> bytes:
        """What is left of the body, and the connection freed. Raises ``ConnectionError`` where it is longer."""
        parts, size = [], 0
        while data := await self.read():
            parts.append(data)
            size += len(data)
            if size > most_bytes:
                self._release()
                raise ConnectionError(f"the answer is longer than {most_bytes} bytes")
        return b"".join(parts)

    async def close(self) -> None:
        self._release()

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._client.release(self._origin, connection)


class HttpClient:
    """Connections to any number of origins, kept for the next request."""

    def __init__(
        self, *, clock: Clock, connect_seconds: float = CONNECT_SECONDS, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._clock = clock
        self._connect_seconds = connect_seconds
        self._idle_seconds = idle_seconds
        self._idle: dict[Origin, list[ClientConnection]] = {}
        self._busy: set[ClientConnection] = set()
        self._closed = False

    async def request(
        self, origin: Origin, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> HttpAnswer:
        """The whole answer. ``headers`` in lower case; ``host`` and ``content-length`` are added when missing."""
        connection = await self._sent(origin, method, target, headers, body)
        try:
            data = await connection.body()
        except BaseException:
            self._drop(connection)
            raise
        answer = HttpAnswer(status=connection.status, headers=connection.headers, pairs=connection.pairs, body=data)
        self.release(origin, connection)
        return answer

    async def open(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        repeated: Sequence[tuple[str, str]] = (),
    ) -> HttpBody:
        """The answer's head; its body is read from what is returned, which must be closed. ``repeated``: headers that
        may stand several times."""
        connection = await self._sent(origin, method, target, headers, body, repeated)
        connection.piecewise = True
        return HttpBody(self, origin, connection)

    async def upgrade(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        repeated: Sequence[tuple[str, str]] = (),
    ) -> tuple[HttpAnswer, TransportStream | None]:
        """With a 101 the answer and the raw connection, which is the caller's to close; else the answer and None.
        ``headers`` must ask for the upgrade."""
        connection = await self._sent(origin, method, target, headers, body, repeated)
        if connection.status != 101:
            connection.most_body_bytes = MOST_REFUSAL_BYTES
            try:
                data = await connection.body()
            finally:
                self._drop(connection)
            answer = HttpAnswer(status=connection.status, headers=connection.headers, pairs=connection.pairs, body=data)
            return answer, None
        self._busy.discard(connection)
        answer = HttpAnswer(status=101, headers=connection.headers, pairs=connection.pairs)
        return answer, connection.hijack()

    async def close(self) -> None:
        """Release connections; requests under way fail with ``ConnectionError``."""
        self._closed = True
        for connections in self._idle.values():
            for connection in connections:
                connection.transport.abort()
        self._idle.clear()
        for connection in tuple(self._busy):
            connection.transport.abort()
        await asyncio.sleep(0)

    def release(self, origin: Origin, connection: ClientConnection) -> None:
        """Take a connection back: kept when its answer was read whole, closed otherwise."""
        self._busy.discard(connection)
        if self._closed or not connection.reusable or not connection.complete or connection.transport.is_closing():
            connection.transport.abort()
            return
        connection.idle_since = self._clock.monotonic()
        kept = self._idle.setdefault(origin, [])
        kept.append(connection)
        if len(kept) > MOST_IDLE:
            kept.pop(0).transport.close()

    def _drop(self, connection: ClientConnection) -> None:
        self._busy.discard(connection)
        connection.transport.abort()

    def _kept(self, origin: Origin) -> ClientConnection | None:
        """The connection used last, if it is still good."""
        kept = self._idle.get(origin)
        oldest = self._clock.monotonic() - self._idle_seconds
        while kept:
            connection = kept.pop()
            if connection.lost or connection.transport.is_closing():
                continue
            if connection.idle_since >= oldest:
                return connection
            connection.transport.close()
        return None

    async def _sent(
        self,
        origin: Origin,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        repeated: Sequence[tuple[str, str]] = (),
    ) -> ClientConnection:
        """A connection on which the request was sent and the answer's head has come."""
        if "host" not in headers:
            headers = {"host": origin.authority, **headers}
        while True:
            connection = self._kept(origin)
            reused = connection is not None
            if connection is None:
                connection = await self._connect(origin)
            self._busy.add(connection)
            try:
                connection.send(method, target, headers, body, repeated)
                await connection.head()
            except ConnectionBroken as error:
                self._drop(connection)
                if not (reused and error.silent and method in SAFE_TO_REPEAT):
                    raise
            except BaseException:
                self._drop(connection)
                raise
            else:
                return connection

    async def _connect(self, origin: Origin) -> ClientConnection:
        if self._closed:
            raise ConnectionError("the client is closed")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await loop.create_connection(
                    lambda: ClientConnection(loop),
                    origin.host,
                    origin.port,
                    ssl=origin.tls,
                    server_hostname=(origin.server_name or origin.host) if origin.tls else None,
                )
        except TimeoutError as error:
            raise ConnectionError(f"dial tcp {origin.host}:{origin.port}: i/o timeout") from error
        except ssl.SSLError as error:
            raise ConnectionError(f"dial tcp {origin.host}:{origin.port}: tls: {error.reason or error}") from error
        except OSError as error:  # name resolution, too
            number = error.errno or 0
            why = f"connect: {os.strerror(number).lower()}" if number > 0 else str(error)
            raise ConnectionError(f"dial tcp {origin.host}:{origin.port}: {why}") from error
        return connection
