"""Going back to an older state, on the reference engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.registry import rewind as rewinding
from anynode.registry.rewind import records_at, rewind
from anynode.storage.memory import MemoryStorage
from anynode.storage.types import Change, Compacted, FutureRevision, Record, Revision

POD, MAP, LEASE = "/registry/pods/shop/web", "/registry/configmaps/shop/a", "/registry/coordination.k8s.io/leases/x/y"


@pytest.fixture
async def storage() -> AsyncIterator[MemoryStorage]:
    async with MemoryStorage() as storage:
        yield storage


async def values(storage: MemoryStorage) -> dict[str, bytes]:
    return {each.key: each.value for each in (await storage.list("/registry/")).records}


async def test_what_came_went_and_changed_is_as_it_was(storage: MemoryStorage) -> None:
    await storage.put(POD, b"pod 1")
    await storage.put(MAP, b"map")
    then = storage.revision
    await storage.put(POD, b"pod 2")
    await storage.delete(MAP)
    await storage.put("/registry/configmaps/shop/b", b"new")
    seen: list[Change] = []
    left = storage.revision
    watch = await storage.watch("/registry/", seen.extend, after=left, ended=seen.clear)  # type: ignore[arg-type]
    done = await rewind(storage, then)
    watch.stop()
    assert (done.before, done.restored, done.changed, done.deleted) == (left, 1, 1, 1)
    assert await values(storage) == {POD: b"pod 1", MAP: b"map"}
    assert [(each.record.key, each.deleted) for each in seen] == [
        (MAP, False),
        (POD, False),
        ("/registry/configmaps/shop/b", True),
    ]
    assert storage.revision == left + 3


async def test_a_way_back_leads_forward_again(storage: MemoryStorage) -> None:
    await storage.put(POD, b"1")
    then = storage.revision
    await storage.put(POD, b"2")
    done = await rewind(storage, then)
    await rewind(storage, done.before)
    assert await values(storage) == {POD: b"2"}


async def test_counting_writes_nothing(storage: MemoryStorage) -> None:
    await storage.put(POD, b"1")
    await storage.put(POD, b"2")
    done = await rewind(storage, Revision(1), dry_run=True)
    assert (done.changed, storage.revision) == (1, 2)


async def test_leases_and_events_stay(storage: MemoryStorage) -> None:
    await storage.put(POD, b"1")
    await storage.put(LEASE, b"held")
    await storage.put("/registry/events/shop/e", b"said")
    await rewind(storage, Revision(1))
    assert set(await values(storage)) == {POD, LEASE, "/registry/events/shop/e"}


async def test_a_revision_that_is_not_kept_changes_nothing(storage: MemoryStorage) -> None:
    await storage.put(POD, b"1")
    await storage.put(POD, b"2")
    await storage.compact(Revision(2))
    with pytest.raises(Compacted):
        await rewind(storage, Revision(1))
    with pytest.raises(FutureRevision):
        await rewind(storage, Revision(3))
    assert await values(storage) == {POD: b"2"}


class Busy(MemoryStorage):
    """Somebody else writes right before each of the first writes."""

    def __init__(self, key: str, times: int) -> None:
        super().__init__()
        self.key, self.times = key, times

    async def put(self, key: str, value: bytes, *, expected: Revision | None = None, **rest: Any) -> Record:
        if expected is not None and key == self.key and self.times:
            self.times -= 1
            await super().put(key, b"theirs %d" % self.times)
        return await super().put(key, value, expected=expected, **rest)

    async def delete(self, key: str, *, expected: Revision | None = None) -> Record | None:
        if expected is not None and key == self.key and self.times:
            self.times -= 1
            await super().put(key, b"theirs %d" % self.times)
        return await super().delete(key, expected=expected)


@pytest.mark.parametrize("times", [1, rewinding.TRIES + 1])
async def test_writers_on_the_way_are_overwritten(times: int) -> None:
    async with Busy(POD, 0) as storage:
        await storage.put(POD, b"1")
        await storage.put(POD, b"2")
        storage.times = times
        await rewind(storage, Revision(1))
        assert await values(storage) == {POD: b"1"}
    async with Busy(MAP, 0) as storage:
        await storage.put(POD, b"1")
        await storage.put(MAP, b"new")
        storage.times = times
        await rewind(storage, Revision(1))
        assert await values(storage) == {POD: b"1"}


async def test_many_are_read_in_pages(storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewinding, "PAGE", 2)
    for index in range(5):
        await storage.put(f"{MAP}{index}", b"x")
    assert len(await records_at(storage, storage.revision)) == 5


@given(st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.binary(max_size=2))), min_size=1), st.data())
async def test_any_state_comes_back(writes: Sequence[tuple[str, bytes | None]], data: st.DataObject) -> None:
    async with MemoryStorage() as storage:
        states: dict[int, dict[str, bytes]] = {0: {}}
        for name, value in writes:
            key = f"/registry/configmaps/shop/{name}"
            await (storage.delete(key) if value is None else storage.put(key, value))
            states[storage.revision] = await values(storage)
        revision = data.draw(st.sampled_from(sorted(states.keys() - {0}) or [0]))
        if revision:
            await rewind(storage, Revision(revision))
            assert await values(storage) == states[revision]
