"""The durable engine's files stay small however often the same objects are written."""

from __future__ import annotations

import asyncio
import os
import pathlib

import pytest

from anynode.aio.clock import SystemClock
from anynode.storage.sqlite import Retention, SqliteStorage
from anynode.storage.types import Revision

MIB = 1024 * 1024
OBJECTS, UPDATES, WRITERS = 100, 50_000, 20


@pytest.mark.slow
async def test_fifty_thousand_updates_of_a_hundred_objects_take_a_few_megabytes(tmp_path: pathlib.Path) -> None:
    """50 MB of values pass through; what is kept is the hundred, and the history of a moment."""
    path = tmp_path / "state.db"
    retention = Retention(keep_seconds=0.3, keep_revisions=1_000, every_seconds=0.1)
    sizes: list[tuple[int, int]] = []
    value = os.urandom(1_000)

    async with SqliteStorage(path, clock=SystemClock(), retention=retention) as storage:

        async def write(writer: int) -> None:
            mine = OBJECTS // WRITERS
            for count in range(UPDATES // WRITERS):
                await storage.put(f"/k/{writer * mine + count % mine:03}", value)
                if count % 100 == 0:
                    sizes.append((path.stat().st_size, pathlib.Path(f"{path}-wal").stat().st_size))

        async with asyncio.TaskGroup() as tasks:
            for writer in range(WRITERS):
                tasks.create_task(write(writer))
        assert len((await storage.list("/k/")).records) == OBJECTS
        assert storage.oldest_revision > Revision(UPDATES // 4), "history was forgotten on the way"
    file, log = (max(each) for each in zip(*sizes, strict=True))
    assert file < 32 * MIB
    assert log < 128 * MIB
    assert path.stat().st_size < 32 * MIB
    assert not pathlib.Path(f"{path}-wal").exists()
