"""The supervisor of containers and the node's side of it: what goes over their socket, and to whom."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from anynode.aio.tasks import Supervisor as Tasks
from anynode.providers.supervision import Supervision
from anynode.providers.supervisor import EXIT, FRAME, STDIN, STDIN_END, STDOUT, Key


class News:
    """The ends of containers, as the node hears of them."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._changed = asyncio.Event()

    def exited(self, key: Key, message: dict[str, Any]) -> None:
        self._codes[key[1]] = message["code"]
        self._changed.set()

    async def exit_code(self, container: str) -> int:
        async with asyncio.timeout(10):
            while container not in self._codes:
                self._changed.clear()
                await self._changed.wait()
        return self._codes[container]


@pytest.fixture
def news() -> News:
    return News()


@pytest.fixture
async def link(tmp_path: pathlib.Path, news: News) -> AsyncIterator[Supervision]:
    """A control connection to a supervisor of its own, which ends when it is left alone."""
    made = Supervision(tmp_path, news.exited)
    reader = await made.connect()
    async with Tasks("supervision") as tasks:
        tasks.start("listen", lambda: made.listen(reader))
        yield made


def program(directory: pathlib.Path, *argv: str) -> dict[str, Any]:
    return {"argv": argv, "env": {"PATH": os.environ["PATH"]}, "cwd": str(directory), "tty": False, "stdin": False}


async def start(link: Supervision, directory: pathlib.Path, container: str, *argv: str) -> None:
    answer = await link.ask(
        "start",
        uid="u",
        container=container,
        attempt=0,
        stdin_once=False,
        log=str(directory / "log"),
        state=str(directory / "state"),
        **program(directory, *argv),
    )
    assert "error" not in answer


async def test_a_session_reads_its_own_answer_first_whatever_ends_meanwhile(
    link: Supervision, news: News, tmp_path: pathlib.Path
) -> None:
    await start(link, tmp_path, "c", "sleep", "60")
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "supervisor.sock"))
    await link.ask("list")  # by now the connection is accepted: what it is for is not known yet
    await link.ask("stop", uid="u", container="c", attempt=0, grace=0)
    assert await news.exit_code("c") == 137

    request = {"id": 7, "op": "exec", **program(tmp_path, "sh", "-c", "echo hello; exit 3")}
    writer.write(json.dumps(request).encode() + b"\n")
    assert json.loads(await reader.readline()).keys() == {"id", "pid"}
    frames = await reader.read()  # to the end
    writer.close()
    kind, length = FRAME.unpack_from(frames)
    assert (kind, frames[FRAME.size : FRAME.size + length]) == (STDOUT, b"hello\n")
    rest = frames[FRAME.size + length :]
    assert FRAME.unpack_from(rest)[0] == EXIT
    assert json.loads(rest[FRAME.size :]) == {"code": 3, "signal": 0}


async def test_a_node_with_very_many_containers_can_list_them(
    link: Supervision, news: News, tmp_path: pathlib.Path
) -> None:
    names = [f"{number}-{'x' * 50_000}" for number in range(3)]
    for name in names:
        await start(link, tmp_path, name, "sleep", "60")
    running = (await link.ask("list"))["running"]
    assert [each[1] for each in running] == names

    again = Supervision(tmp_path, news.exited)
    await again.connect()  # a node that comes back
    await again.close()
    for name in names:
        await link.ask("stop", uid="u", container=name, attempt=0, grace=0)
        assert await news.exit_code(name) == 137


def memory_bytes(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def flooded(directory: pathlib.Path, *argv: str) -> tuple[int, asyncio.StreamWriter]:
    """A session whose program was given input until nobody took more; the program's pid and the session."""
    reader, writer = await asyncio.open_unix_connection(str(directory / "supervisor.sock"))
    writer.write(json.dumps({"id": 1, "op": "exec", **program(directory, *argv), "stdin": True}).encode() + b"\n")
    pid = json.loads(await reader.readline())["pid"]
    frame = FRAME.pack(STDIN, 64 * 1024) + bytes(64 * 1024)
    with contextlib.suppress(TimeoutError):
        for _ in range(1_000):
            writer.write(frame)
            async with asyncio.timeout(0.5):
                await writer.drain()
    return pid, writer


async def test_input_that_nobody_reads_is_not_piled_up(link: Supervision, tmp_path: pathlib.Path) -> None:
    await start(link, tmp_path, "c", "sleep", "60")
    supervisor = parent_of((await link.ask("list"))["running"][0][3])
    before = memory_bytes(supervisor)
    pid, writer = await flooded(tmp_path, "sleep", "60")
    assert memory_bytes(supervisor) - before < 16 * 1024 * 1024
    writer.transport.abort()  # who is not read is all the same missed
    async with asyncio.timeout(10):
        while pathlib.Path(f"/proc/{pid}").exists():
            await link.ask("list")
    await link.ask("stop", uid="u", container="c", attempt=0, grace=0)


async def test_input_goes_on_when_it_is_read_again(link: Supervision, tmp_path: pathlib.Path) -> None:
    request = program(tmp_path, "sh", "-c", "sleep 0.3; wc -c")
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "supervisor.sock"))
    writer.write(json.dumps({"id": 1, "op": "exec", **request, "stdin": True}).encode() + b"\n")
    await reader.readline()
    for _ in range(160):
        writer.write(FRAME.pack(STDIN, 64 * 1024) + bytes(64 * 1024))
        await writer.drain()
    writer.write(FRAME.pack(STDIN_END, 0))
    kind, length = FRAME.unpack(await reader.readexactly(FRAME.size))
    assert (kind, (await reader.readexactly(length)).strip()) == (STDOUT, str(160 * 64 * 1024).encode())
    writer.close()


def parent_of(pid: int) -> int:
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
