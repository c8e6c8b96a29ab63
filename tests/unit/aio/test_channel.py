"""A bounded channel blocks or refuses when full, and drains before it ends."""

from __future__ import annotations

import asyncio

import pytest

from anynode.aio.channel import Channel, ChannelClosed


async def test_offer_refuses_when_full_and_send_waits_for_room() -> None:
    channel: Channel[int] = Channel(1)
    assert channel.offer(1)
    assert not channel.offer(2)
    sender = asyncio.create_task(channel.send(2))
    await asyncio.sleep(0)
    assert not sender.done()
    assert await channel.receive() == 1
    await sender
    assert await channel.receive() == 2


async def test_a_closed_channel_gives_what_is_left_and_then_ends() -> None:
    channel: Channel[int] = Channel(4)
    channel.offer(1)
    channel.offer(2)
    channel.close()
    assert [item async for item in channel] == [1, 2]
    with pytest.raises(ChannelClosed):
        await channel.receive()
    with pytest.raises(ChannelClosed):
        await channel.send(3)


async def test_closing_wakes_a_waiting_reader_and_a_waiting_writer() -> None:
    empty: Channel[int] = Channel(1)
    full: Channel[int] = Channel(1)
    full.offer(1)
    reader = asyncio.create_task(empty.receive())
    writer = asyncio.create_task(full.send(2))
    await asyncio.sleep(0)
    empty.close()
    full.close()
    with pytest.raises(ChannelClosed):
        await reader
    with pytest.raises(ChannelClosed):
        await writer


async def test_receive_all_takes_everything_at_once() -> None:
    channel: Channel[int] = Channel(3)
    for item in (1, 2, 3):
        channel.offer(item)
    assert await channel.receive_all() == [1, 2, 3]
    assert channel.offer(4)
