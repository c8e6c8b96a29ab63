"""A bounded queue that can be closed, with a declared answer to "full".

``send`` blocks when full; ``offer`` never blocks and says whether there was room. After ``close`` the reader gets what
is left and then ``ChannelClosed``. One event loop only.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class ChannelClosed(Exception):
    """Nothing more will come (reader) or may be sent (writer)."""


class Channel(Generic[T]):
    """First in, first out, at most ``size`` items."""

    def __init__(self, size: int) -> None:
        self._items: collections.deque[T] = collections.deque()
        self._size = size
        self._closed = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def closed(self) -> bool:
        return self._closed

    def offer(self, item: T) -> bool:
        """Whether ``item`` was taken; False when full or closed."""
        if self._closed or len(self._items) >= self._size:
            return False
        self._items.append(item)
        self._changed.set()
        if len(self._items) >= self._size:
            self._room.clear()
        return True

    async def send(self, item: T) -> None:
        """Wait for room; raises ``ChannelClosed`` when closed before the item was taken."""
        while not self.offer(item):
            if self._closed:
                raise ChannelClosed
            await self._room.wait()

    async def receive(self) -> T:
        """The oldest item; raises ``ChannelClosed`` when closed and empty. Cancellation loses nothing."""
        while not self._items:
            if self._closed:
                raise ChannelClosed
            self._changed.clear()
            await self._changed.wait()
        item = self._items.popleft()
        self._room.set()
        return item

    async def receive_all(self) -> list[T]:
        """Everything there is, at least one item; raises ``ChannelClosed`` when closed and empty."""
        items = [await self.receive()]
        items.extend(self._items)
        self._items.clear()
        self._room.set()
        return items

    def close(self) -> None:
        """No more sends; safe to call again."""
        self._closed = True
        self._changed.set()
        self._room.set()

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            try:
                yield await self.receive()
            except ChannelClosed:
                return
