"""The reference engine passes the shared suite."""

from __future__ import annotations

import contextlib
import pathlib

import pytest

from anynode.storage.memory import MemoryStorage
from anynode.storage.types import Compacted, Storage
from anynode.testing.storage_suite import Opener, StorageSuite, storage_machine


def open_memory(_: pathlib.Path) -> contextlib.AbstractAsyncContextManager[Storage]:
    return MemoryStorage()


class TestMemoryStorage(StorageSuite):
    keeps = False

    @pytest.fixture
    def opener(self) -> Opener:
        return open_memory


TestMemoryWalks = storage_machine(open_memory, keeps=False)


async def test_history_is_bounded_by_count_and_bytes() -> None:
    async with MemoryStorage(history_changes=10) as storage:
        for _ in range(15):
            await storage.put("/a", b"")
        assert storage.oldest_revision == 5
        with pytest.raises(Compacted):
            await storage.get("/a", revision=storage.revision.__class__(4))
    async with MemoryStorage(history_bytes=1000) as storage:
        for _ in range(15):
            await storage.put("/a", bytes(100))
        assert storage.oldest_revision == 5
