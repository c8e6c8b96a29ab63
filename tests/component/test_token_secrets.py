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
from anynode.api.objects import Object, ObjectKey, annotations_of, uid_of
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
