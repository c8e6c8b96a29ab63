"""The bridge between the towers: ``Transport`` carries an ``ApiRequest`` to an API server, in process or over HTTP.

Implementations: ``client.http.HttpTransport`` (any server) and ``apiserver.loopback.LoopbackTransport`` (this
process); both pass ``testing.transport_suite``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from anynode.api.wire import ApiRequest, ApiResponse, ByteReader, ByteStream, WatchEvent


class WatchStream(Protocol):
    """A running watch: batches of events in order. Ends (StopAsyncIteration) when the server ends it."""

    def __aiter__(self) -> AsyncIterator[Sequence[WatchEvent]]: ...

    async def close(self) -> None:
        """Stop the watch; safe to call again."""
        ...


class Transport(Protocol):
    """A refused request raises ``ApiError``; a server that cannot be reached raises ``ConnectionError``."""

    async def send(self, request: ApiRequest) -> ApiResponse:
        """The whole answer (status below 400), its body read."""
        ...

    async def watch(self, request: ApiRequest) -> WatchStream:
        """Begin a watch; ``request`` already asks for one (``watch=true``)."""
        ...

    async def open(self, request: ApiRequest) -> ByteReader:
        """An answer whose body is read piece by piece, such as a followed log."""
        ...

    async def upgrade(self, request: ApiRequest) -> tuple[ApiResponse, ByteStream]:
        """Switch protocols: the 101 answer (its headers name the protocol chosen) and the raw connection."""
        ...

    async def close(self) -> None:
        """Release connections; requests under way fail with ``ConnectionError``."""
        ...
