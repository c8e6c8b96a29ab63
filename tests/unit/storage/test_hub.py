"""One call per listener and batch, found by path and not by trying all; a bounded window."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from anynode.storage.hub import Hub
from anynode.storage.types import Change, Record, Revision, StorageError, StorageUnavailable
from anynode.testing.storage_suite import Listener


def change(revision: int, key: str, size: int = 1) -> Change:
    at = Revision(revision)
    return Change(at, Record(key, bytes(size), at, at), None)


def small_hub(changes: int = 100, size: int = 1_000) -> Hub:
    return Hub(history_changes=changes, history_bytes=size)


def test_a_batch_is_one_call_with_the_listeners_share() -> None:
    hub, pods, everything = small_hub(), Listener(), Listener()
    hub.subscribe("/pods/", pods, after=Revision(0), ended=pods.ended)
    hub.subscribe("", everything, after=Revision(0), ended=everything.ended)
    hub.publish([change(1, "/pods/a"), change(2, "/nodes/a"), change(3, "/pods/b")])
    assert (pods.calls, everything.calls) == ([2], [3])


def test_only_prefixes_of_the_key_are_looked_at() -> None:
    """A thousand listeners elsewhere cost nothing: their prefixes are never compared."""

    class Watched(str):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Watched.compared += 1
            return str.__eq__(self, other) if isinstance(other, str) else NotImplemented

        __hash__ = str.__hash__

    hub, listener = small_hub(), Listener()
    for count in range(1_000):
        hub.subscribe(Watched(f"/ns-{count}/"), listener, after=Revision(0), ended=listener.ended)
    Watched.compared = 0
    hub.publish([change(count, f"/ns-7/{count}") for count in range(1, 50)])
    assert len(listener.changes) == 49
    assert Watched.compared < 10


def test_stopping_inside_a_call_is_safe() -> None:
    hub, second = small_hub(), Listener()

    def first(changes: Sequence[Change]) -> None:
        watch.stop()

    hub.subscribe("/", first, after=Revision(0), ended=second.ended)
    watch = hub.subscribe("/", second, after=Revision(0), ended=second.ended)
    hub.publish([change(1, "/a")])
    assert second.changes == []


def test_a_listener_that_raises_keeps_nobody_from_hearing() -> None:
    hub, before, after = small_hub(), Listener(), Listener()

    def broken(changes: Sequence[Change]) -> None:
        raise RuntimeError("a bug")

    hub.subscribe("/", before, after=Revision(0), ended=before.ended)
    hub.subscribe("/", broken, after=Revision(0), ended=before.ended)
    hub.subscribe("/", after, after=Revision(0), ended=after.ended)
    with pytest.raises(RuntimeError, match="a bug"):
        hub.publish([change(1, "/a")])
    assert (len(before.changes), len(after.changes)) == (1, 1)


def test_the_window_is_bounded_and_says_where_it_begins() -> None:
    hub = small_hub(changes=3)
    for count in range(1, 6):
        hub.remember(change(count, "/a"))
    assert hub.history_start == 2
    assert [each.revision for each in hub.changes_after(Revision(3))] == [4, 5]
    hub.remember(change(6, "/a", size=999))
    assert hub.history_start == 4
    hub.forget_before(Revision(6))
    assert list(hub.changes_after(Revision(6))) == []
    assert hub.history_start == 6


def test_ending_tells_everybody_once() -> None:
    hub, listener = small_hub(), Listener()
    error: StorageError = StorageUnavailable("closed")
    hub.subscribe("/a/", listener, after=Revision(0), ended=listener.ended)
    hub.subscribe("/odd", listener, after=Revision(0), ended=listener.ended).stop()
    hub.end(error)
    hub.end(error)
    assert listener.ends == [error]
