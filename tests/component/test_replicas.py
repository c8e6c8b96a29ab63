"""Two API servers on one store whose changes reach each other late: what one acknowledged the other answers by."""

from __future__ import annotations

import base64
import pathlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import orjson
import pytest

from anynode.aio.clock import SystemClock
from anynode.api.wire import ApiRequest, ApiResponse, User, WatchEvent, parse_query
from anynode.apiserver.assembly import ApiServerSettings, Assembly
from anynode.apiserver.bootstrap import Bootstrap
from anynode.apiserver.replicas import DEAD_SECONDS, LEASE_SECONDS, RENEW_SECONDS, Replicas
from anynode.registry.shared_services import RESERVED, SharedServiceStore
from anynode.storage.encrypted import EncryptedStorage
from anynode.storage.encryption import load
from anynode.storage.memory import MemoryStorage
from anynode.storage.types import Change, ChangeListener, Compacted, Revision, StorageError, Watch
from anynode.testing.clock import FakeClock

ADMIN = User(name="admin", groups=("system:masters",))
MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/api/v1/namespaces/default/services"


class LateStorage(MemoryStorage):
    """Shared memory as one server sees it: others' changes are heard in ``catch_up``, one's own at once."""

    def __init__(self, inner: MemoryStorage) -> None:
        self.inner = inner
        self.late: list[tuple[ChangeListener, Sequence[Change]]] = []
        self.endings: list[Callable[[StorageError], None]] = []
        self.writing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def shared(self) -> bool:
        return True

    @property
    def revision(self) -> Revision:
        return self.inner.revision

    @property
    def oldest_revision(self) -> Revision:
        return self.inner.oldest_revision

    async def catch_up(self) -> bool:
        late, self.late = self.late, []
        for listener, changes in late:
            listener(changes)
        return bool(late)

    async def get(self, key: str, *, revision: Revision | None = None) -> Any:
        return await self.inner.get(key, revision=revision)

    async def list(self, prefix: str, **options: Any) -> Any:
        return await self.inner.list(prefix, **options)

    async def put(self, key: str, value: bytes, **options: Any) -> Any:
        self.writing = True
        try:
            return await self.inner.put(key, value, **options)
        finally:
            self.writing = False

    async def delete(self, key: str, **options: Any) -> Any:
        self.writing = True
        try:
            return await self.inner.delete(key, **options)
        finally:
            self.writing = False

    async def watch(
        self, prefix: str, listener: ChangeListener, *, ended: Callable[[StorageError], None], **options: Any
    ) -> Watch:
        self.endings.append(ended)

        def hear(changes: Sequence[Change]) -> None:
            self.late.append((listener, changes))
            if self.writing:  # revision order: what came before is heard first
                late, self.late = self.late, []
                for each, batch in late:
                    each(batch)

        return await self.inner.watch(prefix, hear, ended=ended, **options)


class Client:
    def __init__(self, assembly: Assembly, user: User | None = ADMIN) -> None:
        self.assembly = assembly
        self.user = user

    async def ask(self, method: str, target: str, body: Any = None) -> ApiResponse:
        path, _, query = target.partition("?")
        raw = b"" if body is None else orjson.dumps(body)
        return await self.assembly.server.handle(
            ApiRequest(method=method, path=path, query=parse_query(query), headers={}, body=raw, user=self.user)
        )

    async def json(self, method: str, target: str, body: Any = None) -> Any:
        return (await self.ask(method, target, body)).decoded()


class Sink:
    def __init__(self) -> None:
        self.events: list[WatchEvent] = []
        self.ended = False

    def deliver(self, events: Sequence[WatchEvent]) -> bool:
        self.events.extend(events)
        return True

    def end(self) -> None:
        self.ended = True


@pytest.fixture
async def storages() -> AsyncIterator[tuple[LateStorage, LateStorage]]:
    async with MemoryStorage() as inner:
        yield LateStorage(inner), LateStorage(inner)


@pytest.fixture
async def pair(storages: tuple[LateStorage, LateStorage]) -> AsyncIterator[tuple[Client, Client]]:
    """Two servers; the same chance for both, so that they would choose alike."""
    made = [
        Assembly(
            storage, clock=SystemClock(), random=random.Random(1), settings=ApiServerSettings(port=port)
        )
        for storage, port in zip(storages, (1, 2), strict=True)
    ]  # fmt: skip
    async with made[0] as one, made[1] as other:
        yield Client(one), Client(other)


async def test_reads_see_what_the_other_acknowledged(pair: tuple[Client, Client]) -> None:
    one, other = pair
    made = await one.json("POST", MAPS, {"metadata": {"name": "a"}})
    assert "a" not in {item.name for item in other.assembly.served["", "v1", "configmaps"].store.cache.scan()}
    assert (await other.json("GET", f"{MAPS}/a"))["metadata"] == made["metadata"]
    await one.json("POST", MAPS, {"metadata": {"name": "b"}})
    stale = await other.json("GET", f"{MAPS}?resourceVersion=0")
    assert "b" not in {item["metadata"]["name"] for item in stale["items"]}
    fresh = await other.json("GET", MAPS)
    assert {"a", "b"} <= {item["metadata"]["name"] for item in fresh["items"]}
    await one.json("POST", MAPS, {"metadata": {"name": "c"}})
    response = await other.ask("GET", f"{MAPS}?watch=1")
    sink = Sink()
    assert response.watch is not None
    response.watch.start(sink)
    assert "c" in {event.object["metadata"]["name"] for event in sink.events}
    response.watch.stop()


async def test_refusals_are_made_on_the_newest_state(pair: tuple[Client, Client]) -> None:
    one, other = pair
    await one.json("POST", "/api/v1/namespaces", {"metadata": {"name": "n"}})
    assert (await other.ask("POST", "/api/v1/namespaces/n/configmaps", {"metadata": {"name": "a"}})).status == 201
    found = await other.json("POST", MAPS, {"metadata": {"name": "a"}})
    changed = await one.json("PUT", f"{MAPS}/a", {**found, "data": {"by": "one"}})
    assert (await other.ask("PUT", f"{MAPS}/a", {**changed, "data": {"by": "other"}})).status == 200
    assert (await other.ask("PUT", f"{MAPS}/a", {**changed, "data": {"by": "late"}})).status == 409
    await one.ask("DELETE", f"{MAPS}/a")
    assert (await other.ask("POST", MAPS, {"metadata": {"name": "a"}})).status == 201
    assert (await one.ask("DELETE", f"{MAPS}/a")).status == 200
    assert (await other.ask("DELETE", f"{MAPS}/a")).status == 404


async def test_rights_given_through_one_count_at_the_other(pair: tuple[Client, Client]) -> None:
    one, other = pair
    ann = Client(other.assembly, User(name="ann"))
    assert (await ann.ask("GET", MAPS)).status == 403
    rbac = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    binding = {
        "metadata": {"name": "ann"},
        "subjects": [{"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    }
    assert (await one.ask("POST", rbac, binding)).status == 201
    assert (await ann.ask("GET", MAPS)).status == 200


def node_port(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}], **spec}}


def shared_services(client: Client) -> SharedServiceStore:
    store = client.assembly.served["", "v1", "services"].store
    assert isinstance(store, SharedServiceStore)
    return store


async def test_two_servers_that_choose_alike_give_different_addresses(pair: tuple[Client, Client]) -> None:
    made = [await pair[count % 2].json("POST", SERVICES, node_port(f"s{count}")) for count in range(20)]
    assert len({each["spec"]["clusterIP"] for each in made}) == 20
    assert len({each["spec"]["ports"][0]["nodePort"] for each in made}) == 20
    one, other = pair
    taken = {"clusterIP": made[0]["spec"]["clusterIP"]}
    refused = await other.json("POST", SERVICES, node_port("t", **taken))
    assert refused["code"] == 422
    assert "provided IP is already allocated" in refused["message"]
    await one.json("DELETE", f"{SERVICES}/s0")
    again = await other.json("POST", SERVICES, node_port("t", **taken))
    assert again["spec"]["clusterIP"] == taken["clusterIP"]
    plain = await one.json("PUT", f"{SERVICES}/t", {**again, "spec": {**again["spec"], "type": "ClusterIP"}})
    assert "nodePort" not in plain["spec"]["ports"][0] or plain["spec"]["ports"][0]["nodePort"]


async def test_reservations_are_repaired(
    pair: tuple[Client, Client], storages: tuple[LateStorage, LateStorage]
) -> None:
    one, _ = pair
    storage = storages[0]
    made = await one.json("POST", SERVICES, node_port("s"))
    name = f"{RESERVED}serviceips/{made['spec']['clusterIP']}"
    kept = await storage.get(name)
    assert kept is not None
    assert kept.value == b"default/s"
    await storage.delete(name)
    await storage.put(f"{RESERVED}serviceips/127.96.9.9", b"default/never-written")
    services = shared_services(one)
    await services.repair_reservations()
    assert await storage.get(name) is not None
    assert await storage.get(f"{RESERVED}serviceips/127.96.9.9") is not None, "its service may be on its way"
    await services.repair_reservations()
    assert await storage.get(f"{RESERVED}serviceips/127.96.9.9") is None
    assert await storage.get(name) is not None


async def test_servers_know_who_lives(pair: tuple[Client, Client]) -> None:
    clock = FakeClock()
    servers: list[Replicas] = []
    for client, port in zip(pair, (1, 2), strict=True):
        served = client.assembly.served
        bootstrap = Bootstrap(served, "127.0.0.1", port, "127.96.0.1")
        servers.append(
            Replicas(served, bootstrap, endpoint=f"127.0.0.1:{port}", clock=clock, random=random.Random(port))
        )

    async def all_step(*living: Replicas) -> None:
        for _ in range(2):
            for client in pair:
                await client.assembly.cache.catch_up()
            for server in living:
                await server.step()

    async def endpoints() -> set[int]:
        found = await pair[0].json("GET", "/api/v1/namespaces/default/endpoints/kubernetes")
        return {port["port"] for subset in found["subsets"] for port in subset["ports"]}

    await all_step(*servers)
    assert [server.endpoints for server in servers] == [["127.0.0.1:1", "127.0.0.1:2"]] * 2
    assert sorted(server.is_keeper for server in servers) == [False, True]
    assert await endpoints() == {1, 2}
    first, last = servers
    for _ in range(int(DEAD_SECONDS / RENEW_SECONDS) + 1):
        await clock.advance(RENEW_SECONDS)
        await all_step(first)
    assert first.endpoints == ["127.0.0.1:1"]
    assert first.is_keeper
    assert await endpoints() == {1}
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    assert (await pair[0].ask("GET", f"{leases}/{last.name}")).status == 200
    await clock.advance(LEASE_SECONDS)
    await all_step(first)
    assert (await pair[0].ask("GET", f"{leases}/{last.name}")).status == 404
    await first.leave()
    assert (await pair[0].ask("GET", f"{leases}/{first.name}")).status == 404


async def test_after_a_gap_everything_is_read_anew(
    pair: tuple[Client, Client], storages: tuple[LateStorage, LateStorage]
) -> None:
    one, other = pair
    await other.json("POST", MAPS, {"metadata": {"name": "kept"}})
    gone = await other.json("POST", MAPS, {"metadata": {"name": "gone"}})
    response = await other.ask("GET", f"{MAPS}?watch=1&resourceVersion={gone['metadata']['resourceVersion']}")
    sink = Sink()
    assert response.watch is not None
    response.watch.start(sink)
    await one.ask("DELETE", f"{MAPS}/gone")
    await one.json("POST", MAPS, {"metadata": {"name": "new"}})
    storages[1].late.clear()  # what the gap swallowed
    storages[1].endings[-1](Compacted(Revision(1), storages[1].revision))
    assert sink.ended
    found = await other.json("GET", MAPS)
    assert {"kept", "new"} <= {item["metadata"]["name"] for item in found["items"]}
    assert "gone" not in {item["metadata"]["name"] for item in found["items"]}
    again = await other.ask("GET", f"{MAPS}?watch=1&resourceVersion={gone['metadata']['resourceVersion']}")
    late = Sink()
    assert again.watch is not None
    again.watch.start(late)
    assert [event.object["code"] for event in late.events] == [410]
    await one.json("POST", MAPS, {"metadata": {"name": "later"}})
    assert (await other.ask("GET", f"{MAPS}/later")).status == 200


async def test_what_cannot_be_read_fails_alone(tmp_path: pathlib.Path) -> None:
    key = base64.b64encode(bytes(range(32))).decode()
    text = (
        "{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: "
        "[{resources: [secrets], providers: [{aesgcm: {keys: [{name: k, secret: '%s'}]}}]}]}"
    )
    secrets = "/api/v1/namespaces/default/secrets"
    async with MemoryStorage() as inner:
        storage = EncryptedStorage(inner, load(text % key))
        async with Assembly(storage, clock=SystemClock(), random=random.Random(1)) as assembly:
            client = Client(assembly)
            for name in ("good", "bad"):
                made = await client.ask("POST", secrets, {"metadata": {"name": name}, "stringData": {"a": "b"}})
                assert made.status == 201
            record = await inner.get("/registry/secrets/default/good")
            assert record is not None
            assert record.value.startswith(b"k8s:enc:aesgcm:v1:k:")
            await inner.put("/registry/secrets/default/bad", record.value)  # another key's value
            got = await client.json("GET", f"{secrets}/bad")
            assert (got["code"], got["message"]) == (
                500, "Internal error occurred: cipher: message authentication failed",
            )  # fmt: skip
            listed = await client.json("GET", secrets)
            assert listed["code"] == 500
            assert 'unable to transform key "/registry/secrets/default/bad"' in listed["message"]
            assert (await client.ask("GET", f"{secrets}/good")).status == 200
            assert (await client.ask("GET", MAPS)).status == 200
            assert (await client.ask("DELETE", f"{secrets}/bad")).status == 500
            await inner.delete("/registry/secrets/default/bad")
            assert (await client.ask("GET", secrets)).status == 200
        plain = EncryptedStorage(inner, load(text % base64.b64encode(bytes(32)).decode()))
        async with Assembly(plain, clock=SystemClock(), random=random.Random(1)) as assembly:
            assert (await Client(assembly).ask("GET", f"{secrets}/good")).status == 500
