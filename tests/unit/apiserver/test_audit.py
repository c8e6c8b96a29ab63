"""Audit: which requests the policy wants, what an event tells, and that secrets stay where they are."""

from __future__ import annotations

import asyncio
import datetime
import os
import pathlib
import random
import stat
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from anynode.aio.clock import SystemClock
from anynode.api.wire import ApiRequest, User, parse_query
from anynode.apiserver import requestinfo
from anynode.apiserver.assembly import ApiServerSettings, Assembly
from anynode.apiserver.audit_log import AuditLog, RotatedFile
from anynode.apiserver.audit_policy import AuditPolicy, Level, PolicyError
from anynode.storage.memory import MemoryStorage

ADMIN = User(name="admin", groups=("system:masters", "system:authenticated"))
ANN = User(name="ann", groups=("devs", "system:authenticated"))
SECRET = "c3VwZXItc2VjcmV0"


def policy(*rules: Any, **more: Any) -> AuditPolicy:
    return AuditPolicy({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **more})


def target(method: str, path: str) -> requestinfo.RequestInfo:
    return requestinfo.parse(ApiRequest(method=method, path=path))


PODS = target("GET", "/api/v1/namespaces/a/pods/p")
STATUS = target("PATCH", "/api/v1/namespaces/a/pods/p/status")
HEALTH = target("GET", "/healthz/etcd")


@pytest.mark.parametrize(
    ("rule", "info", "matches"),
    [
        ({}, PODS, True),
        ({"users": ["ann"]}, PODS, True),
        ({"users": ["bob"]}, PODS, False),
        ({"userGroups": ["devs"]}, PODS, True),
        ({"userGroups": ["ops"]}, PODS, False),
        ({"verbs": ["get"]}, PODS, True),
        ({"verbs": ["list"]}, PODS, False),
        ({"namespaces": ["a"]}, PODS, True),
        ({"namespaces": [""]}, PODS, False),
        ({"namespaces": ["a"]}, HEALTH, False),
        ({"resources": [{"group": "", "resources": ["pods"]}]}, PODS, True),
        ({"resources": [{"group": "", "resources": ["pods"]}]}, STATUS, False),
        ({"resources": [{"group": "", "resources": ["pods/status"]}]}, STATUS, True),
        ({"resources": [{"group": "", "resources": ["pods/*"]}]}, STATUS, True),
        ({"resources": [{"group": "", "resources": ["*/status"]}]}, STATUS, True),
        ({"resources": [{"group": "", "resources": ["*"]}]}, STATUS, True),
        ({"resources": [{"group": "apps"}]}, PODS, False),
        ({"resources": [{"group": ""}]}, PODS, True),
        ({"resources": [{"group": "", "resources": ["pods"], "resourceNames": ["q"]}]}, PODS, False),
        ({"nonResourceURLs": ["/healthz*"]}, HEALTH, True),
        ({"nonResourceURLs": ["/healthz"]}, HEALTH, False),
        ({"nonResourceURLs": ["*"]}, PODS, False),
    ],
)
def test_which_requests_a_rule_is_for(rule: Any, info: requestinfo.RequestInfo, matches: bool) -> None:
    verdict = policy({"level": "Metadata", **rule}).verdict(ANN, info)
    assert (verdict.level is Level.METADATA) is matches


def test_the_first_rule_decides_and_stages_add_up() -> None:
    found = policy(
        {"level": "None", "users": ["ann"]},
        {"level": "Request", "omitStages": ["Panic"]},
        omitStages=["RequestReceived"],
    )
    assert found.verdict(ANN, PODS).level is Level.NONE
    verdict = found.verdict(ADMIN, PODS)
    assert (verdict.level, verdict.omit_stages) == (Level.REQUEST, frozenset({"Panic", "RequestReceived"}))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "is no object"),
        ("a: [", "cannot be read"),
        ("{apiVersion: v1, kind: Policy}", "not of apiVersion audit.k8s.io/v1"),
        ("{apiVersion: audit.k8s.io/v1, kind: Policy}", "has no rules"),
        ("{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [x]}", r"rules\[0\] is no object"),
        ("{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Loud}]}", "Unsupported value"),
        ("{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: None, users: ann}]}", "is no list"),
        ("{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [X], rules: [{level: None}]}", "Unsupported value"),
        (
            "{apiVersion: audit.k8s.io/v1, kind: Policy, "
            "rules: [{level: None, namespaces: [a], nonResourceURLs: [/x]}]}",
            "cannot apply to both",
        ),
        ("{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: None, nonResourceURLs: [x]}]}", "must begin"),
        ("{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: None, nonResourceURLs: [/*x]}]}", "wildcards"),
    ],
)
def test_policies_that_are_none(text: str, why: str) -> None:
    with pytest.raises(PolicyError, match=why):
        AuditPolicy.parse(text)


# --- the file


def test_files_are_private_rotated_and_cleared(tmp_path: pathlib.Path) -> None:
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    path = tmp_path / "logs" / "audit.log"
    file = RotatedFile(path, now=lambda: moment, most_bytes=10, most_backups=2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for _ in range(5):
        file.write(b"1234567\n")
        moment += datetime.timedelta(seconds=1)
    file.close()
    assert len(list(path.parent.iterdir())) == 3
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in path.parent.iterdir())
    assert path.read_bytes() == b"1234567\n"


def test_old_files_go_by_age(tmp_path: pathlib.Path) -> None:
    old = tmp_path / "audit-2020-01-01T00-00-00.000.log"
    old.write_text("x")
    os.utime(old, (0, 0))
    clock = SystemClock()
    file = RotatedFile(tmp_path / "audit.log", now=clock.now, most_bytes=4, most_days=7)
    file.write(b"one\n")
    file.write(b"two\n")
    file.close()
    assert not old.exists()


class Broken:
    def write(self, _: bytes) -> None:
        raise OSError("the disk is full")

    def close(self) -> None:
        raise OSError("the disk is full")


async def test_a_full_disk_is_said_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog(Broken(), SystemClock())  # type: ignore[arg-type]
    task = asyncio.create_task(log.run())
    for _ in range(3):
        log.write(b"x\n")
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [each.message for each in caplog.records] == ["audit events could not be written"]


# --- on a server


class Memory:
    """Events in memory, with the file's face."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def close(self) -> None:
        """Nothing to close."""


class World:
    def __init__(self, assembly: Assembly, memory: Memory, log: AuditLog) -> None:
        self.assembly = assembly
        self._memory = memory
        self._log = log

    async def ask(self, method: str, at: str, user: User | None = ADMIN, body: Any = None, **headers: str) -> Any:
        path, _, query = at.partition("?")
        request = ApiRequest(
            method=method,
            path=path,
            query=parse_query(query),
            user=user,
            body=b"" if body is None else orjson.dumps(body),
            headers={key.replace("_", "-"): value for key, value in headers.items()},
            peer="127.0.0.9:1234",
        )
        return await self.assembly.server.handle(request)

    async def events(self) -> list[dict[str, Any]]:
        while self._log._lines:  # noqa: ASYNC110 - a thread empties it
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        found, self._memory.data = self._memory.data, b""
        return [orjson.loads(line) for line in found.splitlines()]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    rules = policy(
        {"level": "None", "verbs": ["get"]},
        {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets", "serviceaccounts/token"]}]},
        {"level": "Request", "resources": [{"group": "", "resources": ["nodes"]}], "omitStages": ["RequestReceived"]},
        {"level": "RequestResponse", "omitManagedFields": True},
    )
    memory, clock = Memory(), SystemClock()
    log = AuditLog(memory, clock)  # type: ignore[arg-type]
    writing = asyncio.create_task(log.run())
    settings = ApiServerSettings(audit_policy=rules)
    async with (
        MemoryStorage() as storage,
        Assembly(storage, clock=clock, random=random.Random(1), settings=settings, audit_log=log) as assembly,
    ):
        yield World(assembly, memory, log)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)


async def test_a_creation_is_told_stage_by_stage(world: World) -> None:
    body = {"metadata": {"name": "m"}, "data": {"a": "b"}}
    response = await world.ask("POST", "/api/v1/namespaces/default/configmaps?dryRun=All", body=body, user_agent="me/1")
    received, complete = await world.events()
    assert (received["stage"], complete["stage"]) == ("RequestReceived", "ResponseComplete")
    assert received["auditID"] == complete["auditID"] == response.headers["audit-id"]
    assert "requestObject" not in received
    assert complete["level"] == "RequestResponse"
    assert complete["requestURI"] == "/api/v1/namespaces/default/configmaps?dryRun=All"
    assert complete["verb"] == "create"
    assert complete["user"] == {"username": "admin", "groups": ["system:masters", "system:authenticated"]}
    assert complete["sourceIPs"] == ["127.0.0.9"]
    assert complete["userAgent"] == "me/1"
    assert complete["objectRef"] == {
        "resource": "configmaps", "namespace": "default", "name": "m", "apiVersion": "v1",
    }  # fmt: skip
    assert complete["responseStatus"] == {"metadata": {}, "code": 201}
    assert complete["requestObject"]["data"] == {"a": "b"}
    assert complete["responseObject"]["metadata"]["name"] == "m"
    assert "managedFields" not in complete["responseObject"]["metadata"]
    assert complete["annotations"]["authorization.k8s.io/decision"] == "allow"


async def test_a_refusal_and_why(world: World) -> None:
    await world.ask("DELETE", "/api/v1/namespaces/default/configmaps/m", ANN)
    event = (await world.events())[-1]
    assert event["responseStatus"]["reason"] == "Forbidden"
    assert event["responseStatus"]["code"] == 403
    assert event["annotations"]["authorization.k8s.io/decision"] == "forbid"


async def test_nobodys_credentials_are_told_without_a_user(world: World) -> None:
    await world.ask("DELETE", "/api/v1/namespaces/default/configmaps/m", None, authorization="Bearer nonsense")
    (event,) = await world.events()
    assert (event["stage"], event["responseStatus"]["code"]) == ("ResponseComplete", 401)
    assert "username" not in event["user"]
    assert "nonsense" not in orjson.dumps(event).decode()


async def test_one_who_acts_as_another(world: World) -> None:
    await world.ask("DELETE", "/api/v1/namespaces/default/configmaps/m", impersonate_user="ann")
    event = (await world.events())[-1]
    assert event["user"]["username"] == "admin"
    assert event["impersonatedUser"]["username"] == "ann"


async def test_nothing_secret_at_metadata(world: World) -> None:
    path = "/api/v1/namespaces/default/secrets"
    await world.ask("POST", path, body={"metadata": {"name": "s"}, "data": {"p": SECRET}})
    await world.ask("PUT", f"{path}/s", body={"metadata": {"name": "s"}, "data": {"p": SECRET}})
    events = await world.events()
    assert len(events) == 4
    assert SECRET not in orjson.dumps(events).decode()
    assert all("requestObject" not in each and "responseObject" not in each for each in events)


async def test_what_the_policy_leaves_out(world: World) -> None:
    await world.ask("GET", "/api/v1/namespaces/default")
    assert await world.events() == []
    await world.ask("POST", "/api/v1/nodes", body={"metadata": {"name": "n"}})
    (event,) = await world.events()
    assert "requestObject" in event
    assert "responseObject" not in event


async def test_a_watch_is_told_when_it_begins_and_when_it_ends(world: World) -> None:
    class Sink:
        def deliver(self, _: Any) -> bool:
            return True

        def end(self) -> None:
            """Nothing to end."""

    response = await world.ask("GET", "/api/v1/configmaps?watch=1")
    assert [each["stage"] for each in await world.events()] == ["RequestReceived", "ResponseStarted"]
    response.watch.start(Sink())
    response.watch.stop()
    response.watch.stop()
    assert [each["stage"] for each in await world.events()] == ["ResponseComplete"]
