"""A process that writes to a store as fast as it can and says on stdout what was acknowledged; made to be killed."""

from __future__ import annotations

import asyncio
import sys

from anynode.aio.clock import SystemClock
from anynode.storage.sqlite import SqliteStorage


async def write(path: str, first: int, writers: int) -> None:
    async with SqliteStorage(path, clock=SystemClock()) as storage:

        async def put(writer: int) -> None:
            count = 0
            while True:
                key = f"/k/{first}-{writer}-{count}"
                record = await storage.put(key, key.encode() * 50)
                sys.stdout.write(f"{key} {record.mod_revision}\n")
                sys.stdout.flush()
                count += 1

        async with asyncio.TaskGroup() as tasks:
            for writer in range(writers):
                tasks.create_task(put(writer))


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
