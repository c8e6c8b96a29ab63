"""Copying between connections: back-pressure, half-close, and which end ends what."""

from __future__ import annotations

import asyncio

import pytest

from anynode.streaming.pump import PIPE_BYTES, Pipe, connected, forward, join


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_writer_waits_for_a_slow_reader() -> None:
    near, far = connected()
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(near.write(b"x" * (PIPE_BYTES + 1)))
        await settle()
        assert not writing.done()
        assert len(await far.read()) == PIPE_BYTES + 1
    assert writing.done()


async def test_a_reader_that_left_keeps_nobody_waiting() -> None:
    pipe = Pipe(size=1)
    pipe.feed(b"xx")
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(pipe.drained())
        await settle()
        assert not waiting.done()
        await pipe.close()
    pipe.feed(b"more")
    assert await pipe.read() == b""


async def test_the_end_of_one_direction_ends_a_joined_connection() -> None:
    (client, front), (back, server) = connected(), connected()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(join(front, back))
        await client.write(b"up")
        assert await server.read() == b"up"
        await server.write(b"down")
        assert await client.read() == b"down"
        await server.close()
        assert await client.read() == b""
    with pytest.raises(ConnectionError):
        await client.write(b"late")


async def test_a_client_may_stop_sending_and_still_hears_the_answer() -> None:
    (client, front), (back, server) = connected(), connected()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(forward(front, back))
        await client.write(b"question")
        await client.write_eof()
        assert await server.read() == b"question"
        assert await server.read() == b""
        await server.write(b"answer")
        await server.close()
        assert await client.read() == b"answer"
        assert await client.read() == b""


async def test_a_server_that_hangs_up_ends_a_forwarded_connection() -> None:
    (client, front), (back, server) = connected(), connected()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(forward(front, back))
        await server.close()
        assert await client.read() == b""


@pytest.mark.parametrize("copy", [join, forward])
async def test_cancelled_copying_closes_both_ends(copy: object) -> None:
    (client, front), (back, server) = connected(), connected()
    task = asyncio.create_task(copy(front, back))  # type: ignore[operator]
    await settle()
    task.cancel()
    await asyncio.wait((task,))
    assert await client.read() == b""
    assert await server.read() == b""
