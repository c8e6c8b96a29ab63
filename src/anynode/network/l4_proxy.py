"""The TCP proxy in front of Services: listens on loopback addresses, connects each client to an endpoint.

In: ``Balancer``s by listening address. Out: connections to what they pick, plain TCP or whatever a handed-in ``dial``
makes. An endpoint that cannot be reached is passed over for the next. Connections outlive changes of their route, and
end with the proxy. Where nothing can be reached the client's connection is reset.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar, cast

from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api.wire import ByteStream
from anynode.network.routing import Balancer, Endpoint, Listen
from anynode.network.splice import Side, StreamSide, join, join_streams, reset

logger = logging.getLogger(__name__)

T = TypeVar("T")

Dial = Callable[[Endpoint], Awaitable[ByteStream]]
"""Connects to an endpoint; raises ``ConnectionError``."""

BACKLOG = 1024
CONNECT_SECONDS = 5.0
MOST_TRIES = 4


class L4Proxy:
    """Listeners and their connections; use as ``async with L4Proxy(...) as proxy``."""

    def __init__(self, *, clock: Clock, dial: Dial | None = None) -> None:
        self._clock = clock
        self._dial = dial
        self._servers: dict[Listen, asyncio.Server] = {}
        self._fronts: set[asyncio.Transport] = set()
        self._tasks = Supervisor("l4-proxy", clock=clock, stop_seconds=2.0)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for listen in tuple(self._servers):
            self.close(listen)
        for transport in tuple(self._fronts):
            reset(transport)
        await self._tasks.__aexit__(kind, error, trace)

    @property
    def listening(self) -> frozenset[Listen]:
        return frozenset(self._servers)

    @property
    def connections(self) -> int:
        return len(self._fronts)

    async def listen(self, listen: Listen, balancer: Balancer) -> None:
        """Accept clients there from now on; raises ``OSError`` when the address is taken or not ours to use."""
        family = socket.AF_INET6 if ":" in listen.address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            sock.bind((listen.address, listen.port))
            loop = asyncio.get_running_loop()
            self._servers[listen] = await loop.create_server(lambda: self._front(balancer), sock=sock, backlog=BACKLOG)
        except BaseException:
            sock.close()
            raise

    def close(self, listen: Listen) -> None:
        """Accept nobody there any more; connections go on."""
        server = self._servers.pop(listen, None)
        if server is not None:
            server.close()

    def _front(self, balancer: Balancer) -> asyncio.Protocol:
        return _StreamFront(self, balancer) if self._dial is not None else _Front(self, balancer)

    def accepted(self, transport: asyncio.Transport, serve: Callable[[str], Awaitable[None]]) -> None:
        """A client came: find it an endpoint."""
        peer = transport.get_extra_info("peername")
        self._fronts.add(transport)

        async def work() -> None:
            try:
                await serve(peer[0] if peer else "")
            except ConnectionError:
                reset(transport)

        self._tasks.start("connect", work)

    def gone(self, transport: asyncio.Transport) -> None:
        self._fronts.discard(transport)

    async def plain(self, balancer: Balancer, client: str) -> Side:
        """A plain TCP connection to one of the endpoints; raises ``ConnectionError``."""
        loop = asyncio.get_running_loop()

        async def connect(endpoint: Endpoint) -> Side:
            _, side = await loop.create_connection(Side, endpoint.address, endpoint.port)
            return side

        return await self._first(balancer, client, connect)

    async def dialled(self, balancer: Balancer, client: str) -> ByteStream:
        """A connection by ``dial`` to one of the endpoints; raises ``ConnectionError``."""
        if self._dial is None:
            raise ConnectionError("there is no dialler")
        return await self._first(balancer, client, self._dial)

    async def _first(self, balancer: Balancer, client: str, connect: Callable[[Endpoint], Awaitable[T]]) -> T:
        """What ``connect`` makes of the first endpoint that can be reached."""
        problem: Exception = ConnectionRefusedError("the service has no endpoints")
        for endpoint in balancer.candidates(client, self._clock.monotonic())[:MOST_TRIES]:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    made = await connect(endpoint)
            except (OSError, TimeoutError) as error:
                problem = error
                logger.debug("endpoint not reached", extra={"endpoint": f"{endpoint.address}:{endpoint.port}"})
            else:
                balancer.connected(client, endpoint, self._clock.monotonic())
                return made
        raise ConnectionRefusedError(f"no endpoint of {balancer.route.service} can be reached") from problem


class _Front(Side):
    """A client of a plain route."""

    def __init__(self, proxy: L4Proxy, balancer: Balancer) -> None:
        super().__init__()
        self._proxy = proxy
        self._balancer = balancer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._proxy.accepted(cast(asyncio.Transport, transport), self._serve)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self.transport is not None:
            self._proxy.gone(self.transport)

    async def _serve(self, client: str) -> None:
        join(self, await self._proxy.plain(self._balancer, client))


class _StreamFront(StreamSide):
    """A client of a route whose endpoints are dialled."""

    def __init__(self, proxy: L4Proxy, balancer: Balancer) -> None:
        super().__init__()
        self._proxy = proxy
        self._balancer = balancer
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._transport = cast(asyncio.Transport, transport)
        self._proxy.accepted(self._transport, self._serve)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self._transport is not None:
            self._proxy.gone(self._transport)

    async def _serve(self, client: str) -> None:
        stream = await self._proxy.dialled(self._balancer, client)
        if self.stream is None:
            await stream.close()
            return
        await join_streams(self.stream, stream)
