"""Uses of tokens kept in Secrets are noted once a day, on the Secret that held the token."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from anynode.aio.clock import SystemClock
from anynode.api.objects import Object, labels_of, resource_version_of
from anynode.api.wire import ApiRequest, User
from anynode.apiserver.assembly import Assembly
from anynode.apiserver.token_tracking import LAST_USED, TokenTracking
from anynode.security.legacy_tokens import Legacy
from anynode.storage.memory import MemoryStorage
from anynode.testing.clock import FakeClock

ADMIN = User(name="admin", groups=("system:masters", "system:authenticated"))
SECRETS = "/api/v1/namespaces/default/secrets"
TOKEN = Legacy("default", "robot", "uid", "kept")


class World:
    def __init__(self, assembly: Assembly, clock: FakeClock) -> None:
        self.clock = clock
        self.assembly = assembly
        stores = [assembly.served["", "v1", plural].store for plural in ("secrets", "configmaps")]
        self.tracking = TokenTracking(stores[0], stores[1], clock=clock)
        self._task = asyncio.create_task(self.tracking.run())

    async def ask(self, method: str, path: str, obj: Object | None = None) -> Object:
        headers = {"content-type": "application/merge-patch+json" if method == "PATCH" else "application/json"}
        request = ApiRequest(method=method, path=path, user=ADMIN, obj=obj, headers=headers)
        found: Object = (await self.assembly.server.handle(request)).decoded()
        return found

    async def use(self, times: int = 1) -> Object:
        """The Secret after its token was used."""
        for _ in range(times):
            self.tracking.used(TOKEN)
        await self.settle()
        return await self.ask("GET", f"{SECRETS}/kept")

    async def settle(self) -> None:
        for _ in range(200):
            await asyncio.sleep(0)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with MemoryStorage() as storage, Assembly(storage, clock=SystemClock(), random=random.Random(1)) as assembly:
        made = World(assembly, FakeClock())
        await made.ask("POST", SECRETS, {"metadata": {"name": "kept", "labels": {"a": "b"}}})
        yield made
        await made.stop()


async def test_a_use_is_noted_once_a_day(world: World) -> None:
    today = world.clock.now().date().isoformat()
    noted = await world.use(times=3)
    assert labels_of(noted) == {"a": "b", LAST_USED: today}
    assert resource_version_of(await world.use()) == resource_version_of(noted)
    ahead = {"metadata": {"labels": {LAST_USED: "2026-01-02"}}}
    assert today == "2026-01-01"
    await world.ask("PATCH", f"{SECRETS}/kept", ahead)  # a server whose clock is a little ahead
    assert labels_of(await world.use())[LAST_USED] == "2026-01-02"
    await world.clock.advance(2 * 86400)
    assert labels_of(await world.use())[LAST_USED] == "2026-01-03"


async def test_another_secret_of_the_same_name_is_left_alone(world: World) -> None:
    world.tracking.used(TOKEN)
    await world.ask("DELETE", f"{SECRETS}/kept")
    await world.ask("POST", SECRETS, {"metadata": {"name": "kept"}})
    await world.settle()
    assert labels_of(await world.ask("GET", f"{SECRETS}/kept")) == {}


async def test_what_cannot_be_noted_is_told_and_stops_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.tracking.used(TOKEN)
    await world.ask("DELETE", f"{SECRETS}/kept")
    await world.settle()
    assert caplog.messages in ([], ["use of a token could not be noted"])  # written before the deletion, or not at all
    world.tracking.used(TOKEN)  # a token of a Secret that is gone
    await world.ask("POST", SECRETS, {"metadata": {"name": "kept"}})
    assert LAST_USED in labels_of(await world.use())
