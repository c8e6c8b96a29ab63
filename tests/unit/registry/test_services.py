from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from anynode.api.errors import Invalid
from anynode.api.objects import Object, get_path
from anynode.api.wire import User
from anynode.registry.addresses import AddressPool, PoolFull, PortPool
from anynode.registry.deletion import DeleteOptions
from anynode.registry.services import ServiceStore
from anynode.registry.store import ResourceStore, Write
from anynode.registry.watch_cache import WatchCache


def service(name: str = "s", **spec: object) -> Object:
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": {"ports": [{"port": 80}], **spec}}


@pytest.fixture
async def store(make_store: Callable[..., ResourceStore], cache: WatchCache) -> ServiceStore:
    chance = random.Random(1)
    pools = {"addresses": AddressPool("127.96.0.0/29", chance), "ports": PortPool(30000, 30002, chance)}
    store = make_store("services", build=ServiceStore, **pools)
    assert isinstance(store, ServiceStore)
    await cache.open()
    return store


async def made(store: ServiceStore, obj: Object, write: Write) -> Object:
    return (await store.create(store.kind.rules.default(obj), write)).object["spec"]


async def test_addresses_are_given_kept_and_given_back(store: ServiceStore, write: Write) -> None:
    spec = await made(store, service(), write)
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert spec["ipFamilies"] == ["IPv4"]
    changed, _ = await store.update("ns/s", lambda old: {**old, "spec": {**old["spec"], "selector": {"a": "b"}}}, write)
    assert changed.object["spec"]["clusterIP"] == spec["clusterIP"]
    with pytest.raises(Invalid, match="already allocated"):
        await made(store, service("t", clusterIP=spec["clusterIP"]), write)
    await store.delete("ns/s", DeleteOptions(), write)
    assert (await made(store, service("t", clusterIP=spec["clusterIP"]), write))["clusterIP"] == spec["clusterIP"]


async def test_addresses_outside_the_range_are_refused(store: ServiceStore, write: Write) -> None:
    with pytest.raises(Invalid, match=r"The range of valid IPs is 127\.96\.0\.0/29"):
        await made(store, service(clusterIP="127.1.2.3"), write)


async def test_headless_and_external_services_have_none(store: ServiceStore, write: Write) -> None:
    assert (await made(store, service("h", clusterIP="None"), write))["clusterIPs"] == ["None"]
    external = {"metadata": {"name": "e", "namespace": "ns"}, "spec": {"type": "ExternalName", "externalName": "x.io"}}
    assert "clusterIP" not in await made(store, external, write)


async def test_node_ports_are_given_shared_by_protocol_and_given_back(store: ServiceStore, write: Write) -> None:
    spec = await made(store, service(type="NodePort"), write)
    number = spec["ports"][0]["nodePort"]
    assert 30000 <= number <= 30002
    with pytest.raises(Invalid, match="provided port is already allocated"):
        await made(store, service("t", type="NodePort", ports=[{"port": 80, "nodePort": number}]), write)
    with pytest.raises(Invalid, match="The range of valid ports is 30000-30002"):
        await made(store, service("t", type="NodePort", ports=[{"port": 80, "nodePort": 80}]), write)
    await store.update(
        "ns/s",
        lambda old: {
            **old,
            "spec": {**old["spec"], "type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]},
        },
        write,
    )
    both = [
        {"name": "a", "port": 53, "protocol": "TCP", "nodePort": number},
        {"name": "b", "port": 53, "protocol": "UDP", "nodePort": number},
    ]
    shared = await made(store, service("t", type="NodePort", ports=both), write)
    assert [port["nodePort"] for port in shared["ports"]] == [number, number]


async def test_what_fails_keeps_nothing(store: ServiceStore, write: Write) -> None:
    dry = Write(user=User(name="ann"), dry_run=True)
    for _ in range(10):
        await made(store, service(), dry)
    for _ in range(10):
        with pytest.raises(Invalid):
            await made(store, service(type="NodePort", ports=[{"port": 80}, {"port": 80, "nodePort": 1}]), write)
    spec = await made(store, service(type="NodePort"), write)
    assert spec["clusterIP"]


async def test_a_restart_knows_what_is_held(store: ServiceStore, write: Write) -> None:
    spec = await made(store, service(type="NodePort"), write)
    store._addresses = AddressPool("127.96.0.0/29", random.Random(1))
    store._ports = PortPool(30000, 30002, random.Random(1))
    store.repair()
    with pytest.raises(Invalid, match="already allocated"):
        await made(store, service("t", clusterIP=get_path(spec, "clusterIP")), write)


def test_a_pool_gives_all_it_has_and_no_more() -> None:
    pool = AddressPool("127.96.0.0/29", random.Random(1))
    assert len({pool.next() for _ in range(6)}) == 6
    with pytest.raises(PoolFull):
        pool.next()
    ports = PortPool(1, 2, random.Random(1))
    assert {ports.next(), ports.next()} == {1, 2}
    with pytest.raises(PoolFull):
        ports.next()


async def test_a_family_that_is_not_served_is_refused(store: ServiceStore, write: Write) -> None:
    with pytest.raises(
        Invalid, match=r"spec\.ipFamilies\[0\]: Invalid value: \"IPv6\": not configured on this cluster"
    ):
        await made(store, service(ipFamilies=["IPv6"]), write)
    with pytest.raises(Invalid, match="this cluster is not configured for dual-stack services"):
        await made(store, service(ipFamilyPolicy="RequireDualStack"), write)
    assert (await made(store, service(ipFamilyPolicy="PreferDualStack"), write))["ipFamilies"] == ["IPv4"]
