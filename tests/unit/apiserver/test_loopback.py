from __future__ import annotations

import pytest

from anynode.api.wire import WatchEvent, WatchSink
from anynode.apiserver import loopback
from anynode.apiserver.loopback import LoopbackWatch


class Source:
    """A watch that gives what the test tells it to."""

    def __init__(self) -> None:
        self.sink: WatchSink | None = None
        self.stopped = 0

    def start(self, sink: WatchSink) -> None:
        self.sink = sink

    def stop(self) -> None:
        self.stopped += 1


def event(name: str) -> WatchEvent:
    return WatchEvent("ADDED", obj={"metadata": {"name": name}})


async def test_events_come_in_batches_and_end_with_the_source() -> None:
    source = Source()
    watch = LoopbackWatch(source)
    assert source.sink is not None
    source.sink.deliver([event("a"), event("b")])
    source.sink.deliver([event("c")])
    source.sink.end()
    batches = [[each.object["metadata"]["name"] for each in batch] async for batch in watch]
    assert batches == [["a", "b", "c"]]


async def test_a_reader_that_falls_behind_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "MOST_WAITING", 2)
    source = Source()
    watch = LoopbackWatch(source)
    assert source.sink is not None
    taken = [source.sink.deliver([event("a")]) for _ in range(5)]
    assert taken == [True, True, True, True, False]
    await watch.close()
    await watch.close()
    assert source.stopped == 2
