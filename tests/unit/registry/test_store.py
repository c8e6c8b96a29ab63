from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from anynode.api import resources
from anynode.api.errors import AlreadyExists, ApiError, Conflict, Invalid, NotFound
from anynode.api.objects import Object, get_path, meta
from anynode.api.wire import User
from anynode.registry.deletion import DeleteOptions
from anynode.registry.ownership import ManagedFields
from anynode.registry.store import ResourceStore, Write
from anynode.registry.watch_cache import WatchCache
from anynode.schema import types
from anynode.testing.clock import FakeClock

Stores = Callable[..., ResourceStore]


def config_map(name: str = "a", **more: object) -> Object:
    return {"metadata": {"name": name, "namespace": "ns"}, **more}


def with_data(**data: str) -> Callable[[Object | None], Object]:
    return lambda old: {**(old or {}), "data": data}


@pytest.fixture
async def store(make_store: Stores, cache: WatchCache) -> ResourceStore:
    store = make_store("configmaps")
    await cache.open()
    return store


async def test_a_new_object_gets_what_only_the_server_gives(store: ResourceStore, write: Write) -> None:
    claimed = {"name": "a", "namespace": "ns", "uid": "mine", "creationTimestamp": "1999-01-01T00:00:00Z"}
    item = await store.create({"metadata": {**claimed, "deletionTimestamp": "1999-01-01T00:00:00Z"}}, write)
    metadata = meta(item.object)
    assert metadata["uid"] != "mine"
    assert metadata["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert "deletionTimestamp" not in metadata
    assert metadata["resourceVersion"] == str(item.revision)
    assert store.get("ns/a") is item


async def test_a_name_is_taken_once(store: ResourceStore, write: Write) -> None:
    await store.create(config_map(), write)
    with pytest.raises(AlreadyExists, match='configmaps "a" already exists'):
        await store.create(config_map(), write)


async def test_of_two_that_create_at_once_one_wins(store: ResourceStore, write: Write) -> None:
    outcomes = await asyncio.gather(*(store.create(config_map(), write) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(each, AlreadyExists) for each in outcomes) == 4


async def test_a_generated_name_that_is_taken_is_drawn_again(store: ResourceStore, write: Write) -> None:
    prefix = {"metadata": {"generateName": "g-", "namespace": "ns"}}
    names = {(await store.create(prefix, write)).name for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("g-") and len(name) == 7 for name in names)


async def test_a_stale_version_conflicts_and_none_does_not(store: ResourceStore, write: Write) -> None:
    first = (await store.create(config_map(), write)).object
    await store.update("ns/a", with_data(k="1"), write)
    with pytest.raises(Conflict, match="the object has been modified"):
        await store.update("ns/a", lambda _: {**first, "data": {"k": "2"}}, write)
    item, created = await store.update("ns/a", lambda _: config_map(data={"k": "3"}), write)
    assert not created
    assert item.object["data"] == {"k": "3"}
    assert meta(item.object)["uid"] == meta(first)["uid"]


async def test_concurrent_changes_are_all_made(store: ResourceStore, write: Write) -> None:
    await store.create(config_map(data={"n": "0"}), write)

    def one_more(old: Object | None) -> Object:
        assert old is not None
        return {**old, "data": {"n": str(int(old["data"]["n"]) + 1)}}

    await asyncio.gather(*(store.update("ns/a", one_more, write) for _ in range(20)))
    assert store.get("ns/a").object["data"] == {"n": "20"}


async def test_a_change_of_nothing_is_not_written(store: ResourceStore, cache: WatchCache, write: Write) -> None:
    first = await store.create(config_map(data={"k": "1"}), write)
    before = cache.revision
    again, _ = await store.update("ns/a", lambda _: config_map(data={"k": "1"}), write)
    assert again.revision == first.revision
    assert cache.revision == before


async def test_what_is_wrong_is_invalid_and_not_written(store: ResourceStore, cache: WatchCache, write: Write) -> None:
    with pytest.raises(Invalid, match=r"metadata\.name"):
        await store.create(config_map("Bad_Name"), write)
    await store.create(config_map(), write)
    before = cache.revision
    with pytest.raises(Invalid, match=r"metadata\.labels") as caught:
        await store.update("ns/a", lambda old: {**old, "metadata": {**old["metadata"], "labels": {"a b": ""}}}, write)
    assert len(caught.value.causes) == 4  # as often as upstream says it
    assert cache.revision == before


async def test_a_uid_names_what_a_put_means_and_cannot_be_patched(store: ResourceStore, write: Write) -> None:
    await store.create(config_map(), write)
    other = {"metadata": {"name": "a", "namespace": "ns", "uid": "other"}}
    with pytest.raises(Conflict, match="Precondition failed: UID"):
        await store.update("ns/a", lambda _: other, write, uid_meant=True)
    with pytest.raises(Invalid, match=r"metadata\.uid"):
        await store.update("ns/a", lambda old: {**old, "metadata": {**old["metadata"], "uid": "other"}}, write)


async def test_a_version_on_creation_is_refused(store: ResourceStore, write: Write) -> None:
    with pytest.raises(ApiError, match="resourceVersion should not be set"):
        await store.create({"metadata": {"name": "a", "namespace": "ns", "resourceVersion": "1"}}, write)


async def test_only_some_kinds_are_created_by_an_update(make_store: Stores, cache: WatchCache, write: Write) -> None:
    leases, maps = make_store("leases", "coordination.k8s.io"), make_store("configmaps")
    await cache.open()
    _, created = await leases.update("ns/l", lambda _: {"metadata": {"name": "l", "namespace": "ns"}}, write)
    assert created
    with pytest.raises(NotFound):
        await maps.update("ns/a", lambda _: config_map(), write)
    _, created = await maps.update("ns/a", lambda _: config_map(), write, force_create=True)
    assert created


async def test_a_dry_run_answers_and_stores_nothing(store: ResourceStore, cache: WatchCache) -> None:
    dry = Write(user=User(name="ann"), dry_run=True)
    item = await store.create(config_map(), dry)
    assert meta(item.object)["uid"]
    assert "resourceVersion" not in meta(item.object)
    real = await store.create(config_map(), Write(user=User(name="ann")))
    shown, _ = await store.update("ns/a", with_data(k="v"), dry)
    assert shown.object["data"] == {"k": "v"}
    assert meta(shown.object)["resourceVersion"] == str(real.revision)
    gone = await store.delete("ns/a", DeleteOptions(dry_run=True), dry)
    assert gone.gone
    assert store.get("ns/a").revision == real.revision == cache.revision


async def test_finalizers_hold_until_an_update_empties_them(store: ResourceStore, write: Write) -> None:
    await store.create({"metadata": {"name": "a", "namespace": "ns", "finalizers": ["x.io/y"]}}, write)
    marked = await store.delete("ns/a", DeleteOptions(), write)
    assert not marked.gone
    again = await store.delete("ns/a", DeleteOptions(), write)
    assert again.item.revision == marked.item.revision
    free = {key: value for key, value in meta(marked.item.object).items() if key != "finalizers"}
    await store.update("ns/a", lambda old: {**(old or {}), "metadata": free}, write)
    assert store.find("ns/a") is None
    with pytest.raises(NotFound):
        await store.delete("ns/a", DeleteOptions(), write)


async def test_a_deletion_says_its_own_revision(store: ResourceStore, cache: WatchCache, write: Write) -> None:
    await store.create(config_map(), write)
    deletion = await store.delete("ns/a", DeleteOptions(), write)
    assert deletion.gone
    assert deletion.item.revision == cache.revision
    assert meta(deletion.item.object)["resourceVersion"] == str(cache.revision)


async def test_admission_may_change_and_refuse(store: ResourceStore) -> None:
    async def admit(operation: str, obj: Object | None, old: Object | None) -> Object | None:
        if operation == "DELETE":
            raise Conflict("not now")
        return {**(obj or {}), "data": {"seen": operation}}

    write = Write(user=User(name="ann"), admit=admit)
    assert (await store.create(config_map(), write)).object["data"] == {"seen": "CREATE"}
    item, _ = await store.update("ns/a", with_data(k="v"), write)
    assert item.object["data"] == {"seen": "UPDATE"}
    with pytest.raises(Conflict, match="not now"):
        await store.delete("ns/a", DeleteOptions(), write)


async def test_ownership_follows_writes_and_times_alone_are_no_change(
    make_store: Stores, cache: WatchCache, clock: FakeClock, write: Write
) -> None:
    table = types.builtin()
    resource = resources.known("configmaps")
    store = make_store("configmaps", ownership=ManagedFields(resource, table.of_kind("v1", "ConfigMap"), table))
    await cache.open()
    item = await store.create({**config_map(data={"k": "1"}), "kind": "ConfigMap", "apiVersion": "v1"}, write)
    (entry,) = meta(item.object)["managedFields"]
    assert (entry["manager"], entry["fieldsV1"]) == ("test", {"f:data": {".": {}, "f:k": {}}})
    await clock.advance(10)
    again, _ = await store.update("ns/a", with_data(k="1"), write)
    assert again.revision == item.revision


async def test_status_and_spec_have_each_their_endpoint(make_store: Stores, cache: WatchCache, write: Write) -> None:
    store = make_store("pods")
    await cache.open()
    pod = {"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await store.create(store.kind.rules.default(pod), write)
    running, _ = await store.update(
        "ns/p",
        lambda old: {**(old or {}), "spec": {}, "status": {"phase": "Running"}},
        write,
        rules=store.status_rules,
    )
    assert get_path(running.object, "spec", "containers") is not None
    assert get_path(running.object, "status", "phase") == "Running"
    kept, _ = await store.update("ns/p", lambda old: {**(old or {}), "status": {"phase": "Failed"}}, write)
    assert get_path(kept.object, "status", "phase") == "Running"
