"""What every ``Transport`` must do, as tests: subclass ``TransportSuite`` and give it a ``transport`` fixture.

The fixture yields a transport to an API server that holds a namespace ``default`` and where ConfigMaps may be written
by whoever asks. Source: ``client.transport``.
"""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator, Sequence

import pytest

from anynode.api.errors import AlreadyExists, Conflict, NotFound
from anynode.api.objects import Object, ObjectKey, annotations_of, name_of, resource_version_of, with_path
from anynode.api.resources import known
from anynode.api.wire import ApiRequest, WatchEvent
from anynode.client.api_client import ApiClient, PatchKind
from anynode.client.transport import Transport, WatchStream

CONFIG_MAPS = known("configmaps")


def config_map(**data: str) -> Object:
    """One that nobody else made."""
    metadata = {"namespace": "default", "name": f"suite-{uuid.uuid4().hex[:8]}"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def next_events(events: AsyncIterator[Sequence[WatchEvent]], name: str, count: int) -> list[WatchEvent]:
    """The next ``count`` events about ``name``, within five seconds."""
    found: list[WatchEvent] = []
    async with asyncio.timeout(5):
        async for batch in events:
            found += [each for each in batch if name_of(each.object) == name]
            if len(found) >= count:
                break
    return found


class TransportSuite:
    """The tests."""

    @pytest.fixture
    def client(self, transport: Transport) -> ApiClient:
        return ApiClient(transport)

    async def test_an_object_comes_back_as_it_went(self, client: ApiClient) -> None:
        made = await client.create(CONFIG_MAPS, config_map(text="grüße", empty=""))
        key = ObjectKey("default", name_of(made))
        assert await client.get(CONFIG_MAPS, key) == made
        assert made["data"] == {"text": "grüße", "empty": ""}
        page = await client.list(CONFIG_MAPS, "default", field_selector=f"metadata.name={key.name}")
        assert [name_of(each) for each in page.items] == [key.name]
        await client.delete(CONFIG_MAPS, key)

    async def test_refusals_are_api_errors_of_their_reason(self, client: ApiClient) -> None:
        made = await client.create(CONFIG_MAPS, config_map())
        key = ObjectKey("default", name_of(made))
        with pytest.raises(AlreadyExists):
            await client.create(CONFIG_MAPS, with_path(config_map(), ("metadata", "name"), key.name))
        await client.update(CONFIG_MAPS, {**made, "data": {"a": "1"}})
        with pytest.raises(Conflict):
            await client.update(CONFIG_MAPS, {**made, "data": {"a": "2"}})
        await client.delete(CONFIG_MAPS, key)
        with pytest.raises(NotFound) as caught:
            await client.get(CONFIG_MAPS, key)
        assert caught.value.details == {"name": key.name, "kind": "configmaps"}
        assert caught.value.message == f'configmaps "{key.name}" not found'

    async def test_patches_travel_with_their_kind(self, client: ApiClient) -> None:
        made = await client.create(CONFIG_MAPS, config_map(a="1"))
        key = ObjectKey("default", name_of(made))
        await client.patch(CONFIG_MAPS, key, {"data": {"b": "2"}})
        await client.patch(CONFIG_MAPS, key, [{"op": "remove", "path": "/data/a"}], kind=PatchKind.JSON)
        done = await client.patch(CONFIG_MAPS, key, {"data": {"c": "3"}}, kind=PatchKind.STRATEGIC)
        assert done["data"] == {"b": "2", "c": "3"}

    async def test_a_watch_tells_what_happens_after_its_version(self, client: ApiClient) -> None:
        made = await client.create(CONFIG_MAPS, config_map(a="1"))
        name = name_of(made)
        changed = await client.update(CONFIG_MAPS, {**made, "data": {"a": "2"}})
        stream = await client.watch(CONFIG_MAPS, "default", resource_version=resource_version_of(made))
        events = aiter(stream)
        [modified] = await next_events(events, name, 1)
        assert (modified.type, modified.object) == ("MODIFIED", changed)
        await client.delete(CONFIG_MAPS, ObjectKey("default", name))
        [deleted] = await next_events(events, name, 1)
        assert deleted.type == "DELETED"
        assert int(resource_version_of(deleted.object)) > int(resource_version_of(changed))
        await close(stream, events)

    async def test_a_streaming_list_ends_with_its_bookmark(self, client: ApiClient) -> None:
        made = await client.create(CONFIG_MAPS, config_map())
        selector = f"metadata.name={name_of(made)}"
        stream = await client.watch(CONFIG_MAPS, "default", field_selector=selector, send_initial_events=True)
        events = aiter(stream)
        seen: list[WatchEvent] = []
        async with asyncio.timeout(5):
            async for batch in events:
                seen += batch
                if seen[-1].type == "BOOKMARK":
                    break
        assert [each.type for each in seen] == ["ADDED", "BOOKMARK"]
        assert annotations_of(seen[-1].object)["k8s.io/initial-events-end"] == "true"
        await close(stream, events)

    async def test_a_watch_goes_on_for_the_next_loop_over_it(self, client: ApiClient) -> None:
        made = await client.create(CONFIG_MAPS, config_map())
        name = name_of(made)
        stream = await client.watch(CONFIG_MAPS, "default", send_initial_events=True)
        [added] = await next_events(aiter(stream), name, 1)
        gc.collect()  # the first loop's iterator is gone
        await asyncio.sleep(0)
        changed = await client.update(CONFIG_MAPS, {**made, "data": {"a": "2"}})
        [modified] = await next_events(aiter(stream), name, 1)
        assert (added.type, modified.type, modified.object) == ("ADDED", "MODIFIED", changed)
        await stream.close()

    async def test_a_closed_watch_ends_and_may_be_closed_again(self, client: ApiClient) -> None:
        stream = await client.watch(CONFIG_MAPS, "default", send_initial_events=True)
        await stream.close()
        await stream.close()

    async def test_a_body_can_be_read_piece_by_piece(self, client: ApiClient, transport: Transport) -> None:
        made = await client.create(CONFIG_MAPS, config_map(big="x" * 500_000))
        path = CONFIG_MAPS.path("default", name_of(made))
        reader = await transport.open(ApiRequest(method="GET", path=path))
        size = 0
        while piece := await reader.read():
            size += len(piece)
        await reader.close()
        assert size > 500_000
        with pytest.raises(NotFound):
            await transport.open(ApiRequest(method="GET", path=path + "-not"))

    async def test_after_close_nothing_can_be_asked(self, client: ApiClient, transport: Transport) -> None:
        await transport.close()
        with pytest.raises(ConnectionError):
            await client.list(CONFIG_MAPS, "default")


async def close(stream: WatchStream, events: AsyncIterator[Sequence[WatchEvent]]) -> None:
    """Stop a watch whose iterator is under way."""
    await stream.close()
    closing = getattr(events, "aclose", None)
    if closing is not None:
        await closing()
