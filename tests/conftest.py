"""What every test must leave as it found it: tasks, threads, child processes, listening ports."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import pathlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest

SETTLE_SECONDS = 2.0
"""How long what is already ending may take to be gone."""


def child_processes() -> set[int]:
    """This process's children, as the kernel lists them; zombies that nobody reaped included."""
    found: set[int] = set()
    for task in pathlib.Path("/proc/self/task").iterdir():
        try:
            found.update(int(pid) for pid in (task / "children").read_text().split())
        except OSError:
            continue
    return found


def listening_ports() -> set[str]:
    """Local addresses this process listens on. Its own descriptors are asked: the kernel's table of all sockets takes
    milliseconds to read, which thousands of tests would pay twice."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:["):
                continue
            with socket.socket(fileno=os.dup(int(descriptor))) as asked:
                listens = asked.family in (socket.AF_INET, socket.AF_INET6) and asked.getsockopt(
                    socket.SOL_SOCKET, socket.SO_ACCEPTCONN
                )
                if listens:
                    found.add(str(asked.getsockname()))
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread, a child process or a listening port behind."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("no_task_leaks")
    before = (set(threading.enumerate()), child_processes(), listening_ports())
    yield
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        leaked = {
            "threads": set(threading.enumerate()) - before[0],
            "processes": child_processes() - before[1],
            "ports": listening_ports() - before[2],
        }
        leaked["threads"] = {thread for thread in leaked["threads"] if not thread.name.startswith("asyncio_")}
        if not any(leaked.values()):
            return
        if time.monotonic() > deadline:
            break
        gc.collect()
        time.sleep(0.02)
    pytest.fail(f"leaked: { {kind: found for kind, found in leaked.items() if found} }")


@pytest.fixture
async def no_task_leaks() -> AsyncIterator[None]:
    """Fail an async test that leaves a task running."""
    before = asyncio.all_tasks()
    yield
    for _ in range(10):
        await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() - before if not task.done() and task is not asyncio.current_task()}
    assert not left, f"leaked tasks: {sorted(task.get_name() for task in left)}"
