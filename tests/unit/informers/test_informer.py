"""Informers over a fake API server: order, resumption, expiry, fallback, late subscribers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator

import pytest

from anynode.api.errors import InternalError, NotFound, TooManyRequests
from anynode.api.objects import Object, ObjectKey, name_of
from anynode.api.resources import known
from anynode.api.wire import ApiRequest, WatchEvent
from anynode.client.api_client import ApiClient
from anynode.client.transport import WatchStream
from anynode.informers.informer import Delta, Informer, InformerFactory
from anynode.testing.clock import FakeClock
from anynode.testing.fake_api import FakeApi

CONFIG_MAPS = known("configmaps")


def config_map(name: str, value: str = "", uid: str | None = None) -> Object:
    metadata = {"namespace": "default", "name": name, **({"uid": uid} if uid else {})}
    return {"metadata": metadata, "data": {"value": value}}


class Log:
    def __init__(self, informer: Informer) -> None:
        self.said: list[str] = []
        informer.subscribe(self)

    def __call__(self, delta: Delta) -> None:
        self.said.append(f"{delta.kind} {name_of(delta.obj)}={delta.obj['data']['value']}")


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@contextlib.asynccontextmanager
async def running(api: FakeApi, clock: FakeClock) -> AsyncIterator[InformerFactory]:
    factory = InformerFactory(ApiClient(api), clock=clock, detect_mutation=True)
    task = asyncio.create_task(factory.run())
    try:
        yield factory
        factory.check_unchanged()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("streaming", [True, False])
async def test_follows_the_server(clock: FakeClock, streaming: bool) -> None:
    api = FakeApi(streaming_lists=streaming)
    api.add(CONFIG_MAPS, config_map("a", "1"))
    async with running(api, clock) as factory:
        informer = factory.informer(CONFIG_MAPS)
        log = Log(informer)
        assert not informer.synced
        await factory.wait_synced()
        api.put(CONFIG_MAPS, config_map("a", "2"))
        api.put(CONFIG_MAPS, config_map("b", "1"))
        api.remove(CONFIG_MAPS, ObjectKey("default", "a"))
        await clock.settle()
        assert log.said == ["added a=1", "modified a=2", "added b=1", "deleted a=2"]
        assert [name_of(each) for each in informer.store.list()] == ["b"]
        late = Log(informer)
        assert late.said == ["added b=1"]
        lists = [each for each in api.requests if "watch" not in each.query]
        assert len(lists) == (0 if streaming else 1)


class RefusesInTheStream(FakeApi):
    """Accepts a streaming list and then says in its first event that it cannot: a server on an old etcd."""

    async def watch(self, request: ApiRequest) -> WatchStream:
        if request.argument("sendInitialEvents") == "true":
            return Refusal()
        return await super().watch(request)


class Refusal:
    async def __aiter__(self) -> AsyncIterator[list[WatchEvent]]:
        yield [WatchEvent("ERROR", obj=InternalError("the required storage feature is disabled").status())]

    async def close(self) -> None:
        return


async def test_falls_back_to_lists_when_the_stream_itself_refuses(clock: FakeClock) -> None:
    api = RefusesInTheStream()
    api.add(CONFIG_MAPS, config_map("a", "1"))
    async with running(api, clock) as factory:
        log = Log(factory.informer(CONFIG_MAPS))
        await factory.wait_synced()
        api.put(CONFIG_MAPS, config_map("a", "2"))
        await clock.settle()
        assert log.said == ["added a=1", "modified a=2"]


async def test_equal_arguments_share_one_informer(api: FakeApi, clock: FakeClock) -> None:
    async with running(api, clock) as factory:
        one = factory.informer(CONFIG_MAPS, label_selector="a=b")
        assert factory.informer(CONFIG_MAPS, label_selector="a=b") is one
        assert factory.informer(CONFIG_MAPS) is not one
        said_by_discovery = dataclasses.replace(CONFIG_MAPS, short_names=(), categories=(), subresources=())
        assert factory.informer(said_by_discovery, label_selector="a=b") is one


async def test_a_mirror_ends_with_its_last_user(api: FakeApi, clock: FakeClock) -> None:
    async with running(api, clock) as factory:
        informer = factory.informer(CONFIG_MAPS)
        assert factory.informer(CONFIG_MAPS) is informer
        await factory.wait_synced()
        one, other = Log(informer), Log(informer)
        informer.unsubscribe(one)
        factory.release(informer)
        api.put(CONFIG_MAPS, config_map("a", "1"))
        await clock.settle()
        assert (one.said, other.said) == ([], ["added a=1"])
        factory.release(informer)
        await clock.settle()
        assert api.watches == []
        factory.release(informer)  # one time too many: nothing happens
        again = factory.informer(CONFIG_MAPS)
        assert again is not informer
        await again.wait_synced()
        assert len(api.watches) == 1


async def test_a_mirror_that_never_began_can_be_released(api: FakeApi, clock: FakeClock) -> None:
    factory = InformerFactory(ApiClient(api), clock=clock)
    factory.release(factory.informer(CONFIG_MAPS))
    assert factory.informer(CONFIG_MAPS).store.list() == []


async def test_a_kind_that_is_not_found_is_worth_a_line_only_if_that_lasts(
    api: FakeApi, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    api.refuse(NotFound("the server could not find the requested resource"), path="configmaps", times=1000)
    async with running(api, clock) as factory:
        informer = factory.informer(CONFIG_MAPS)
        for _ in range(12):
            await clock.advance(0.25)
        assert caplog.messages == []
        for _ in range(60):
            await clock.advance(0.25)
        assert "watch broke and will be begun again" in caplog.messages
        api.faults.clear()
        for _ in range(20):
            await clock.advance(5)
        assert informer.synced
        assert all("sendInitialEvents" in each.query for each in api.requests)  # no reason to fall back to lists


@pytest.mark.parametrize("error", [None, ConnectionResetError("cut")])
async def test_resumes_a_broken_watch_without_listing(
    api: FakeApi, clock: FakeClock, error: ConnectionError | None
) -> None:
    async with running(api, clock) as factory:
        log = Log(factory.informer(CONFIG_MAPS))
        await factory.wait_synced()
        await clock.advance(100)
        api.break_watches(error)
        api.put(CONFIG_MAPS, config_map("a", "1"))
        await clock.settle()
        assert log.said == ["added a=1"]
        assert "sendInitialEvents" not in api.requests[-1].query
        assert len(api.watches) == 1


async def test_resumes_from_a_bookmark(api: FakeApi, clock: FakeClock) -> None:
    async with running(api, clock) as factory:
        factory.informer(CONFIG_MAPS)
        await factory.wait_synced()
        api.add(known("nodes"), {"metadata": {"name": "n"}})
        api.bookmark()
        await clock.advance(100)
        api.break_watches()
        await clock.settle()
        assert api.requests[-1].argument("resourceVersion") == "2"


async def test_lists_again_when_history_is_gone(api: FakeApi, clock: FakeClock) -> None:
    api.add(CONFIG_MAPS, config_map("a", "1"), config_map("b", "1"))
    async with running(api, clock) as factory:
        log = Log(factory.informer(CONFIG_MAPS))
        await factory.wait_synced()
        log.said.clear()
        await clock.advance(100)
        api.break_watches()
        api.remove(CONFIG_MAPS, ObjectKey("default", "a"))
        api.put(CONFIG_MAPS, config_map("b", "2"))
        api.add(CONFIG_MAPS, config_map("c", "1"))
        api.compact()
        await clock.advance(60)
        assert log.said == ["deleted a=1", "modified b=2", "added c=1"]


async def test_an_object_made_again_meanwhile_is_deleted_then_added(api: FakeApi, clock: FakeClock) -> None:
    api.add(CONFIG_MAPS, config_map("a", "1"))
    async with running(api, clock) as factory:
        log = Log(factory.informer(CONFIG_MAPS))
        await factory.wait_synced()
        await clock.advance(100)
        api.break_watches()
        api.remove(CONFIG_MAPS, ObjectKey("default", "a"))
        api.add(CONFIG_MAPS, config_map("a", "2"))
        api.compact()
        await clock.advance(60)
        assert log.said == ["added a=1", "deleted a=1", "added a=2"]


async def test_waits_while_the_server_is_away(api: FakeApi, clock: FakeClock) -> None:
    api.refuse(ConnectionRefusedError(), times=3)
    api.refuse(TooManyRequests("slow down"), times=2)
    async with running(api, clock) as factory:
        informer = factory.informer(CONFIG_MAPS)
        await clock.advance(0.5)
        assert not informer.synced
        assert len(api.requests) == 1
        await clock.advance(60)
        assert informer.synced
        assert len(api.requests) == 6


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_subscribers_end_up_with_what_the_server_holds(seed: int) -> None:
    """A random walk over writes, broken and refused watches, forgotten history and slow lists."""
    chance = random.Random(seed)
    clock, api = FakeClock(), FakeApi(streaming_lists=bool(seed % 2))
    async with running(api, clock) as factory:
        informer = factory.informer(CONFIG_MAPS)
        mirror: dict[str, Object] = {}

        def follow(delta: Delta) -> None:
            name = name_of(delta.obj)
            if delta.kind == "added":
                assert name not in mirror
            else:
                assert delta.old is mirror[name]
            if delta.kind == "deleted":
                del mirror[name]
            else:
                if name in mirror:
                    assert int(delta.obj["metadata"]["resourceVersion"]) > int(
                        mirror[name]["metadata"]["resourceVersion"]
                    )
                mirror[name] = delta.obj

        informer.subscribe(follow)
        for _ in range(300):
            name = f"m{chance.randrange(6)}"
            there = name in {name_of(each) for each in api.objects(CONFIG_MAPS)}
            match chance.randrange(12):
                case 0 | 1 | 2 | 3 | 4:
                    api.put(CONFIG_MAPS, config_map(name, str(chance.random())))
                case 5 | 6 if there:
                    api.remove(CONFIG_MAPS, ObjectKey("default", name))
                case 7:
                    api.break_watches(chance.choice([None, ConnectionResetError()]))
                case 8:
                    api.compact()
                case 9 if chance.random() < 0.3:
                    error = chance.choice([ConnectionRefusedError(), TooManyRequests("no"), InternalError("no")])
                    api.refuse(error, times=chance.randrange(1, 3))
                case 10:
                    api.bookmark()
                case _:
                    await clock.advance(chance.choice([0, 0.5, 5, 40]))
        api.faults.clear()
        await clock.advance(400)
        held = {name_of(each): each for each in api.objects(CONFIG_MAPS)}
        assert {name: each["metadata"]["resourceVersion"] for name, each in mirror.items()} == {
            name: each["metadata"]["resourceVersion"] for name, each in held.items()
        }
        assert {name_of(each): each for each in informer.store.list()} == mirror
