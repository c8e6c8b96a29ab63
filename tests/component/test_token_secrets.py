"""Tokens kept in Secrets, and roles made of others: made by controllers, used on the server, gone with their cause."""

from __future__ import annotations

import asyncio
import base64
import pathlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from anynode.aio.clock import SystemClock
from anynode.aio.tasks import Supervisor
from anynode.api.errors import NotFound
from anynode.api.objects import Object, ObjectKey, annotations_of, labels_of, resource_version_of, uid_of
from anynode.api.resources import known
from anynode.api.wire import ApiRequest, User
from anynode.apiserver.loopback import LoopbackTransport
from anynode.apiserver.process import ApiServerProcess
from anynode.client.api_client import ApiClient, PatchKind
from anynode.controllers.manager import ControllerManager, ControllerSettings
from anynode.storage.memory import MemoryStorage

ADMIN = User(name="admin", groups=("system:masters",))
SECRETS, ACCOUNTS = known("secrets"), known("serviceaccounts")
ROLES = known("clusterroles", "rbac.authorization.k8s.io")
CONFIG_MAPS = known("configmaps")
TRACKING = ObjectKey("kube-system", "kube-apiserver-legacy-service-account-token-tracking")
LAST_USED = "kubernetes.io/legacy-token-last-used"
SECRET, ACCOUNT = ObjectKey("default", "kept"), ObjectKey("default", "robot")


class World:
    def __init__(self, process: ApiServerProcess) -> None:
        self.server = process.assembly.server
        self.client = ApiClient(LoopbackTransport(self.server, ADMIN))

    async def who(self, token: str) -> tuple[int, Any]:
        request = ApiRequest(
            method="POST",
            path="/apis/authentication.k8s.io/v1/selfsubjectreviews",
            headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
            body=b"{}",
        )
        response = await self.server.handle(request)
        return response.status, response.decoded()

    async def until(self, condition: Callable[[], Awaitable[Any]]) -> Any:
        async with asyncio.timeout(10):
            while True:
                found = await condition()
                if found:
                    return found
                await asyncio.sleep(0.02)

    async def token(self) -> str:
        async def kept() -> str:
            secret = await self.client.get(SECRETS, SECRET)
            return base64.b64decode((secret.get("data") or {}).get("token", "")).decode()

        found: str = await self.until(kept)
        return found


@pytest.fixture
async def world(tmp_path: pathlib.Path) -> AsyncIterator[World]:
    clock = SystemClock()
    async with (
        MemoryStorage() as storage,
        ApiServerProcess(storage, clock=clock, random=random.Random(1), directory=tmp_path) as process,
        Supervisor("test", clock=clock) as tasks,
    ):
        world = World(process)
        settings = ControllerSettings(
            controllers=("serviceaccount-token-controller,clusterrole-aggregation-controller",),
            root_ca="CERTIFICATE",
            sign_token=process.tokens.issue_legacy,
        )
        tasks.start(
            "controllers",
            ControllerManager(world.client, clock=clock, settings=settings, chance=random.Random(2)).run,
        )
        await world.client.create(ACCOUNTS, {"metadata": {"name": "robot", "namespace": "default"}})
        yield world


def kept(account: str = "robot") -> Object:
    return {
        "metadata": {
            "name": "kept",
            "namespace": "default",
            "annotations": {"kubernetes.io/service-account.name": account},
        },
        "type": "kubernetes.io/service-account-token",
    }


async def test_a_secret_gets_a_token_that_dies_with_it(world: World) -> None:
    await world.client.create(SECRETS, kept())
    token = await world.token()
    secret = await world.client.get(SECRETS, SECRET)
    assert base64.b64decode(secret["data"]["namespace"]) == b"default"
    assert base64.b64decode(secret["data"]["ca.crt"]) == b"CERTIFICATE"
    account = await world.client.get(ACCOUNTS, ACCOUNT)
    assert annotations_of(secret)["kubernetes.io/service-account.uid"] == uid_of(account)
    status, review = await world.who(token)
    assert status == 201
    assert review["status"]["userInfo"]["username"] == "system:serviceaccount:default:robot"
    await world.client.delete(SECRETS, SECRET)
    assert (await world.who(token))[0] == 401


async def test_a_token_that_the_secret_does_not_hold_any_more(world: World) -> None:
    await world.client.create(SECRETS, kept())
    token = await world.token()
    await world.client.patch(SECRETS, SECRET, {"data": {"token": "eA=="}}, kind=PatchKind.MERGE)
    assert (await world.who(token))[0] == 401


async def test_the_day_a_token_was_used_is_noted_for_the_cleaner(world: World) -> None:
    async def announced() -> Any:
        try:
            return await world.client.get(CONFIG_MAPS, TRACKING)
        except NotFound:
            return None

    tracking = await world.until(announced)
    today = SystemClock().now().date().isoformat()
    assert tracking["data"] == {"since": today}
    await world.client.create(SECRETS, kept())
    token = await world.token()
    assert LAST_USED not in labels_of(await world.client.get(SECRETS, SECRET))
    await world.who(token)

    async def noted() -> Any:
        return labels_of(await world.client.get(SECRETS, SECRET)).get(LAST_USED)

    assert await world.until(noted) == today
    before = resource_version_of(await world.client.get(SECRETS, SECRET))
    await world.who(token)
    await asyncio.sleep(0)
    assert resource_version_of(await world.client.get(SECRETS, SECRET)) == before


async def test_the_use_of_a_token_that_is_marked_invalid_is_noted_too(world: World) -> None:
    await world.client.create(SECRETS, kept())
    token = await world.token()
    labels = {"kubernetes.io/legacy-token-invalid-since": "2020-01-01", LAST_USED: "2019-01-01"}
    await world.client.patch(SECRETS, SECRET, {"metadata": {"labels": labels}}, kind=PatchKind.MERGE)
    assert (await world.who(token))[0] == 401

    async def noted() -> bool:
        found = labels_of(await world.client.get(SECRETS, SECRET))[LAST_USED]
        return found == SystemClock().now().date().isoformat()

    assert await world.until(noted)


@pytest.mark.parametrize(("since", "kept_as_it_is"), [("2024-02-30", False), ("20240229", False), ("2024-02-29", True)])
async def test_a_day_that_is_none_is_mended_at_the_next_start(
    tmp_path: pathlib.Path, since: str, kept_as_it_is: bool
) -> None:
    clock = SystemClock()
    async with MemoryStorage() as storage:
        for number in range(2):
            async with ApiServerProcess(storage, clock=clock, random=random.Random(1), directory=tmp_path) as process:
                world = World(process)

                async def day(world: World = world) -> Any:
                    return (await world.client.get(CONFIG_MAPS, TRACKING))["data"]["since"]

                if not number:

                    async def is_told() -> bool:
                        try:
                            return bool(await day())
                        except NotFound:
                            return False

                    assert await world.until(is_told)
                    await world.client.patch(CONFIG_MAPS, TRACKING, {"data": {"since": since}}, kind=PatchKind.MERGE)
                    continue
                wanted = since if kept_as_it_is else clock.now().date().isoformat()

                async def is_mended(wanted: str = wanted) -> bool:
                    return bool(await day() == wanted)

                assert await world.until(is_mended)


async def test_a_secret_goes_with_its_account(world: World) -> None:
    await world.client.create(SECRETS, kept())
    token = await world.token()
    await world.client.delete(ACCOUNTS, ACCOUNT)
    assert (await world.who(token))[0] == 401

    async def gone() -> bool:
        try:
            await world.client.get(SECRETS, SECRET)
        except NotFound:
            return True
        return False

    assert await world.until(gone)


async def test_an_aggregated_role_has_the_rules_of_those_it_selects(world: World) -> None:
    rule = {"apiGroups": ["example.com"], "resources": ["things"], "verbs": ["get"]}
    part = {"metadata": {"name": "part", "labels": {"aggregate": "yes"}}, "rules": [rule]}
    whole = {
        "metadata": {"name": "whole"},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"aggregate": "yes"}}]},
        "rules": [],
    }
    await world.client.create(ROLES, whole)
    await world.client.create(ROLES, part)

    async def rules() -> Any:
        return (await world.client.get(ROLES, ObjectKey("", "whole"))).get("rules")

    assert await world.until(rules) == [rule]
    await world.client.delete(ROLES, ObjectKey("", "part"))

    async def empty() -> bool:
        return not await rules()

    assert await world.until(empty)
