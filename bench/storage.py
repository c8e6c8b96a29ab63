"""Puts per second of a storage engine, as concurrent writers see it.

Run: ``python bench/storage.py [--engine sqlite|memory|etcd] [--puts N] [--writers N] [--bytes N] [--busy SHARE]``.
Prints one line per figure. ``loop`` is the event loop's share: the time of its thread, the writing thread's apart.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pathlib
import resource
import tempfile
import time
from collections.abc import Coroutine, Sequence

import uvloop

from anynode.aio.clock import SystemClock
from anynode.storage import etcd
from anynode.storage.memory import MemoryStorage
from anynode.storage.sqlite import SqliteStorage
from anynode.storage.types import Change, Revision, Storage, StorageError
from anynode.testing.etcd_server import EtcdServer


def percentile(samples: list[float], share: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))]


async def keep_busy(share: float) -> None:
    """Stand for an API server's other work: take ``share`` of the loop's time in slices of 0.5 ms."""
    while True:
        began = time.perf_counter()
        while time.perf_counter() - began < 0.0005:
            pass
        await asyncio.sleep(0 if share >= 1 else 0.0005 * (1 - share) / share)


async def measure(storage: Storage, *, puts: int, writers: int, size: int, busy: float) -> None:
    value = os.urandom(size)
    heard = 0
    latencies: list[float] = []

    def listen(changes: Sequence[Change]) -> None:
        nonlocal heard
        heard += len(changes)

    def ended(error: StorageError) -> None:
        raise error

    async def write(writer: int) -> None:
        for count in range(puts // writers):
            began = time.perf_counter()
            await storage.put(f"/registry/pods/ns-{writer}/pod-{count % 500:05}", value, decoded=None)
            latencies.append(time.perf_counter() - began)

    watch = await storage.watch("/registry/pods/", listen, after=Revision(storage.revision), ended=ended)
    began, used = time.perf_counter(), time.thread_time()
    spinning = asyncio.create_task(keep_busy(busy)) if busy else None
    async with asyncio.TaskGroup() as tasks:
        for writer in range(writers):
            tasks.create_task(write(writer))
    if spinning is not None:
        spinning.cancel()
    seconds, loop_seconds = time.perf_counter() - began, time.thread_time() - used
    watch.stop()
    done = len(latencies)
    print(f"puts/s {done / seconds:,.0f}  ({writers} writers, {size} bytes, {done} puts, {heard} heard)")
    print(f"latency ms p50 {percentile(latencies, 0.5) * 1e3:.2f}  p99 {percentile(latencies, 0.99) * 1e3:.2f}")
    print(f"loop us/put {loop_seconds / done * 1e6:.1f}  (client coroutines included)")
    began = time.perf_counter()
    page = await storage.list("/registry/pods/")
    print(f"list ms {(time.perf_counter() - began) * 1e3:.1f}  ({len(page.records)} records)")


def print_sizes(path: pathlib.Path) -> None:
    for each in (path, path.with_name(f"{path.name}-wal")):
        with contextlib.suppress(FileNotFoundError):
            print(f"{each.name} MB {each.stat().st_size / 1e6:.0f}")


async def run(arguments: argparse.Namespace) -> None:
    def measured(storage: Storage) -> Coroutine[None, None, None]:
        return measure(
            storage, puts=arguments.puts, writers=arguments.writers, size=arguments.bytes, busy=arguments.busy
        )

    if arguments.engine == "memory":
        async with MemoryStorage() as memory:
            await measured(memory)
        return
    if arguments.engine == "etcd":
        temporary = tempfile.TemporaryDirectory(dir=arguments.directory)
        with temporary as directory, EtcdServer(pathlib.Path(directory)) as server:
            settings = etcd.EtcdSettings(servers=[server.url])
            async with etcd.EtcdStorage(settings, clock=SystemClock()) as shared:
                await measured(shared)
        return
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        path = pathlib.Path(directory) / "state.db"
        async with SqliteStorage(path, clock=SystemClock()) as storage:
            await measured(storage)
            print_sizes(path)
        began = time.perf_counter()
        async with SqliteStorage(path, clock=SystemClock()):
            print(f"open ms {(time.perf_counter() - began) * 1e3:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("sqlite", "memory", "etcd"), default="sqlite")
    parser.add_argument("--puts", type=int, default=50_000)
    parser.add_argument("--writers", type=int, default=64)
    parser.add_argument("--bytes", type=int, default=3_000)
    parser.add_argument("--busy", type=float, default=0.0, help="share of the loop's time that other work takes")
    parser.add_argument("--directory", default=None, help="where the data file goes; default: the temporary directory")
    uvloop.run(run(parser.parse_args()))
    print(f"RSS MB {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


if __name__ == "__main__":
    main()
