"""Priority and fairness: where a request belongs, who gets a seat, who waits, who is sent away; and overload."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from anynode.aio.clock import SystemClock
from anynode.api.objects import Object
from anynode.api.wire import ApiRequest, User, parse_query
from anynode.apiserver import requestinfo
from anynode.apiserver.assembly import Assembly
from anynode.apiserver.fair_queues import WAIT_SECONDS, Level, Pool, Rejected
from anynode.apiserver.flow_control import MOST_PATH
from anynode.apiserver.flow_rules import FlowConfig, LevelConfig, Queuing, dangling, distinguisher_of, hand_of
from anynode.security import bootstrap
from anynode.storage.memory import MemoryStorage
from anynode.testing.clock import FakeClock

SHIPPED = [each for each in bootstrap.objects() if each.resource.group == "flowcontrol.apiserver.k8s.io"]
SCHEMAS = [each.obj for each in SHIPPED if each.resource.plural == "flowschemas"]
LEVELS = [each.obj for each in SHIPPED if each.resource.plural == "prioritylevelconfigurations"]
ADMIN = User(name="admin", groups=("system:masters", "system:authenticated"))
ANN = User(name="ann", groups=("system:authenticated",))
API = "/apis/flowcontrol.apiserver.k8s.io/v1"


def asked(method: str, target: str) -> requestinfo.RequestInfo:
    path, _, query = target.partition("?")
    return requestinfo.parse(ApiRequest(method=method, path=path, query=parse_query(query)))


@pytest.mark.parametrize(
    ("user", "groups", "method", "path", "schema", "level"),
    [
        ("admin", ("system:masters",), "GET", "/api/v1/pods", "exempt", "exempt"),
        ("system:anonymous", ("system:unauthenticated",), "GET", "/healthz", "probes", "exempt"),
        ("system:node:n", ("system:nodes",), "PATCH", "/api/v1/nodes/n/status", "system-node-high", "node-high"),
        ("system:node:n", ("system:nodes",), "GET", "/api/v1/services", "system-nodes", "system"),
        ("system:kube-scheduler", (), "GET", "/api/v1/pods", "kube-scheduler", "workload-high"),
        ("system:serviceaccount:kube-system:x", ("system:serviceaccounts:kube-system",), "GET", "/api/v1/pods",
         "kube-system-service-accounts", "workload-high"),
        ("system:serviceaccount:a:b", ("system:serviceaccounts",), "GET", "/api/v1/pods", "service-accounts",
         "workload-low"),
        ("ann", ("system:authenticated",), "GET", "/api/v1/pods", "global-default", "global-default"),
        ("nobody", (), "GET", "/api/v1/pods", "catch-all", "catch-all"),
    ],
)  # fmt: skip
def test_where_requests_belong(
    user: str, groups: tuple[str, ...], method: str, path: str, schema: str, level: str
) -> None:
    config = FlowConfig(SCHEMAS, LEVELS, 600)
    found = config.schema_of(User(name=user, groups=groups), asked(method, path))
    assert (found.name, found.level) == (schema, level)


def test_shares_of_the_seats() -> None:
    levels = FlowConfig(SCHEMAS, LEVELS, 600).levels
    assert levels["exempt"].exempt
    # 20 of 245 shares, half of them lent; 100 of 245, nine tenths lent
    assert (levels["global-default"].guaranteed, levels["global-default"].most) == (25, 649)
    assert (levels["workload-low"].guaranteed, levels["workload-low"].most_per_request) == (25, 37)
    assert levels["catch-all"].queuing is None


def test_what_is_mandatory_holds_without_objects() -> None:
    config = FlowConfig((), (), 600)
    assert [each.name for each in config.schemas] == ["exempt", "catch-all"]
    assert config.schema_of(ADMIN, asked("GET", "/api/v1/pods")).name == "exempt"
    assert config.schema_of(User(name="x"), asked("GET", "/api/v1/pods")).name == "catch-all"


def test_a_schema_without_its_level_is_passed_over_and_says_so() -> None:
    lost = {"metadata": {"name": "lost"}, "spec": {"matchingPrecedence": 2, "rules": SCHEMAS[0]["spec"]["rules"],
            "priorityLevelConfiguration": {"name": "nowhere"}}}  # fmt: skip
    config = FlowConfig([*SCHEMAS, lost], LEVELS, 600)
    assert "lost" not in [each.name for each in config.schemas]
    said = dangling(lost, config.levels)
    assert (said["status"], said["reason"]) == ("True", "NotFound")
    assert dangling(SCHEMAS[0], config.levels)["status"] == "False"


def test_flows_are_told_apart_and_dealt_hands() -> None:
    config = FlowConfig(SCHEMAS, LEVELS, 600)
    info = asked("GET", "/api/v1/namespaces/a/pods")
    schema = config.schema_of(ANN, info)
    assert distinguisher_of(schema, ANN, info) == "ann"
    queuing = Queuing(queues=64, hand=6, length=50)
    hand = hand_of(schema.name, "ann", queuing)
    assert len(set(hand)) == 6
    assert hand == hand_of(schema.name, "ann", queuing)
    assert hand != hand_of(schema.name, "bob", queuing)


def level(pool: Pool, *, guaranteed: int = 1, most: int = 1, length: int = 2, queues: int = 2) -> Level:
    queuing = Queuing(queues=queues, hand=1, length=length) if queues else None
    config = LevelConfig(name="l", uid="", exempt=False, nominal=guaranteed, guaranteed=guaranteed, most=most,
                         most_per_request=1,
                         queuing=queuing)  # fmt: skip
    return Level(config, pool)


async def test_who_waits_gets_the_next_seat_and_full_queues_send_away() -> None:
    one = level(Pool(10))
    assert one.take(1)
    assert not one.take(1)
    tasks = [asyncio.create_task(one.wait((0,), 1, 0.0)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Rejected, match="queue-full"):
        await one.wait((0,), 1, 0.0)
    one.release(1)
    await tasks[0]
    assert not tasks[1].done()
    one.release(1)
    await tasks[1]
    one.release(1)
    assert (one.used, one.waiting) == (0, 0)


async def test_queues_take_turns() -> None:
    one = level(Pool(10), length=10)
    assert one.take(1)
    order: list[str] = []

    async def work(name: str, queue: int) -> None:
        await one.wait((queue,), 1, 0.0)
        order.append(name)
        one.release(1)

    many = [asyncio.create_task(work("many", 0)) for _ in range(4)]
    await asyncio.sleep(0)
    few = [asyncio.create_task(work("few", 1)) for _ in range(2)]
    await asyncio.sleep(0)
    one.release(1)
    await asyncio.gather(*many, *few)
    assert order[:4] == ["many", "few", "many", "few"]


async def test_waiting_ends_after_its_time() -> None:
    one = level(Pool(10))
    assert one.take(1)
    task = asyncio.create_task(one.wait((0,), 1, 100.0))
    await asyncio.sleep(0)
    one.sweep(100.0 + WAIT_SECONDS - 1)
    assert one.waiting == 1
    one.sweep(100.0 + WAIT_SECONDS)
    with pytest.raises(Rejected, match="time-out"):
        await task
    assert one.waiting == 0


async def test_one_who_leaves_takes_no_seat() -> None:
    pool = Pool(10)
    one = level(pool)
    assert one.take(1)
    waiting = asyncio.create_task(one.wait((0,), 1, 0.0))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    granted = asyncio.create_task(one.wait((0,), 1, 0.0))
    await asyncio.sleep(0)
    one.release(1)
    granted.cancel()  # seated, but gone before it knew
    await asyncio.gather(granted, return_exceptions=True)
    assert (one.used, one.waiting, pool.used, pool.hungry) == (0, 0, 0, {})


async def test_seats_are_lent_and_what_is_guaranteed_is_kept() -> None:
    pool = Pool(4)
    greedy, modest = level(pool, guaranteed=1, most=9), level(pool, guaranteed=2, most=2)
    taken = 0
    while greedy.take(1):
        taken += 1
    assert taken == 4
    assert modest.take(1)
    assert modest.take(1)
    assert not modest.take(1)


async def test_a_level_that_rejects_has_no_queues() -> None:
    one = level(Pool(10), queues=0)
    assert one.take(1)
    with pytest.raises(Rejected, match="concurrency-limit"):
        await one.wait((), 1, 0.0)


async def test_those_who_come_too_often_are_sent_away_for_longer() -> None:
    one = level(Pool(10), queues=0)
    assert one.take(1)
    for _ in range(9):
        for _ in range(200):
            with pytest.raises(Rejected):
                await one.wait((), 1, 0.0)
        one.sweep(0.0)
    with pytest.raises(Rejected) as caught:
        await one.wait((), 1, 0.0)
    assert caught.value.retry_seconds == 10


# --- on a server


@pytest.fixture
async def assembly() -> AsyncIterator[Assembly]:
    async with MemoryStorage() as storage, Assembly(storage, clock=SystemClock(), random=random.Random(1)) as made:
        yield made


async def ask(assembly: Assembly, method: str, target: str, user: User = ADMIN, body: Any = None) -> Any:
    path, _, query = target.partition("?")
    return await assembly.server.handle(
        ApiRequest(method=method, path=path, query=parse_query(query), user=user, obj=body)
    )


async def test_answers_name_schema_and_level_by_uid(assembly: Assembly) -> None:
    schema = (await ask(assembly, "GET", f"{API}/flowschemas/global-default")).decoded()
    shown = (await ask(assembly, "GET", f"{API}/prioritylevelconfigurations/global-default")).decoded()
    for path in ("/api/v1/pods", "/api/v1/namespaces", "/version"):  # refusals, too
        headers = (await ask(assembly, "GET", path, ANN)).headers
        assert headers["x-kubernetes-pf-flowschema-uid"] == schema["metadata"]["uid"]
        assert headers["x-kubernetes-pf-prioritylevel-uid"] == shown["metadata"]["uid"]


def narrow(name: str = "narrow") -> tuple[Object, Object]:
    limited = {"nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}}
    made = {"metadata": {"name": name}, "spec": {"type": "Limited", "limited": limited}}
    rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
    schema = {
        "metadata": {"name": name},
        "spec": {
            "matchingPrecedence": 50,
            "priorityLevelConfiguration": {"name": name},
            "rules": [{"subjects": [{"kind": "User", "user": {"name": "ann"}}], "resourceRules": [rule]}],
        },
    }
    return made, schema


async def test_overload_is_answered_with_429_and_never_with_a_stall(assembly: Assembly) -> None:
    made, schema = narrow()
    assert (await ask(assembly, "POST", f"{API}/prioritylevelconfigurations", body=made)).status == 201
    assert (await ask(assembly, "POST", f"{API}/flowschemas", body=schema)).status == 201
    held = assembly.flows.place(ANN, asked("GET", "/api/v1/pods")).level
    assert held.config.name == "narrow"
    assert held.take(1)
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*(ask(assembly, "GET", "/api/v1/pods", ANN) for _ in range(500)))
        others = await ask(assembly, "GET", "/api/v1/pods")
    assert {each.status for each in answers} == {429}
    first = answers[0]
    assert first.body == b"Too many requests, please try again later.\n"
    assert int(first.headers["retry-after"]) >= 1
    assert "x-kubernetes-pf-flowschema-uid" in first.headers
    assert others.status == 200
    held.release(1)
    assert (await ask(assembly, "GET", "/api/v1/pods", ANN)).status == 403  # served again


async def test_a_flood_of_one_user_leaves_room_for_another(assembly: Assembly) -> None:
    async with asyncio.timeout(20):
        async with asyncio.TaskGroup() as group:
            flood = [group.create_task(ask(assembly, "GET", "/api/v1/nodes", ANN)) for _ in range(3000)]
            await asyncio.sleep(0)
            calm = group.create_task(ask(assembly, "GET", "/api/v1/nodes", User(name="bob", groups=ANN.groups)))
    assert calm.result().status == 403
    assert {each.result().status for each in flood} <= {403, 429}


async def test_dangling_is_told_and_untold() -> None:
    clock = FakeClock()
    async with MemoryStorage() as storage, Assembly(storage, clock=clock, random=random.Random(1)) as assembly:
        made, schema = narrow("later")
        await ask(assembly, "POST", f"{API}/flowschemas", body=schema)
        assert await told_dangling(assembly, clock) == "True"
        await ask(assembly, "POST", f"{API}/prioritylevelconfigurations", body=made)
        assert await told_dangling(assembly, clock) == "False"


async def told_dangling(assembly: Assembly, clock: FakeClock) -> str:
    """What the schema says, without waiting for the next look at all objects."""
    await clock.advance(0)
    found = (await ask(assembly, "GET", f"{API}/flowschemas/later")).decoded()
    return str(found["status"]["conditions"][0]["status"])


async def test_mandatory_objects_come_back() -> None:
    clock = FakeClock()
    async with MemoryStorage() as storage, Assembly(storage, clock=clock, random=random.Random(1)) as assembly:
        await clock.advance(1)
        await ask(assembly, "DELETE", f"{API}/flowschemas/catch-all")
        await ask(assembly, "DELETE", f"{API}/prioritylevelconfigurations/workload-low")
        assert (await ask(assembly, "GET", "/api/v1/pods", User(name="x"))).status == 403
        await clock.advance(61)
        assert (await ask(assembly, "GET", f"{API}/flowschemas/catch-all")).status == 200
        assert (await ask(assembly, "GET", f"{API}/prioritylevelconfigurations/workload-low")).status == 200


async def test_long_lists_are_wide(assembly: Assembly) -> None:
    for number in range(30):
        body = {"metadata": {"name": f"m{number}"}, "data": {"a": "x" * 40_000}}
        await ask(assembly, "POST", "/api/v1/namespaces/default/configmaps", body=body)
    find, flows = assembly.server.find, assembly.flows
    place = flows.place(ANN, asked("GET", "/api/v1/configmaps"))

    def width(target: str) -> int:
        path, _, query = target.partition("?")
        request = ApiRequest(method="GET", path=path, query=parse_query(query))
        return flows.width(place, requestinfo.parse(request), request, find)

    assert width("/api/v1/configmaps") == place.level.config.most_per_request > 1
    assert width("/api/v1/configmaps?limit=2") == 1
    assert width("/api/v1/namespaces/default/configmaps/m1") == 1
    assert width("/api/v1/configmaps?watch=1&resourceVersion=5") == 1


async def test_watches_have_a_bound(assembly: Assembly, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anynode.apiserver.flow_control.MOST_WATCHES", 0)
    assert (await ask(assembly, "GET", "/api/v1/pods?watch=1")).status == 429
    assert (await ask(assembly, "GET", "/api/v1/pods")).status == 200


async def test_paths_anybody_makes_up_are_not_kept(assembly: Assembly) -> None:
    nobody = User(name="system:anonymous", groups=("system:unauthenticated",))
    first = assembly.flows.place(nobody, asked("GET", f"/{'x' * MOST_PATH}"))
    assert assembly.flows.place(nobody, asked("GET", f"/{'x' * MOST_PATH}")) is not first
    short = asked("GET", "/short")
    assert assembly.flows.place(nobody, short) is assembly.flows.place(nobody, short)
