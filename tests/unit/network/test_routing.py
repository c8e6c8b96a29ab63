"""Services and slices -> routes; picking endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api.objects import Object, ObjectKey
from anynode.network.routing import Balancer, Endpoint, Listen, Route, routes_of


def service(*ports: Object, **spec: Any) -> Object:
    spec = {"clusterIP": "127.96.0.5", "clusterIPs": ["127.96.0.5"], "type": "ClusterIP", **spec}
    return {"metadata": {"namespace": "default", "name": "web"}, "spec": {**spec, "ports": list(ports)}}


def endpoint(address: str, **conditions: bool) -> Object:
    return {"addresses": [address], "conditions": conditions, "targetRef": {"uid": f"uid-{address}"}, "nodeName": "n"}


def slice_of(*endpoints: Object, port: int | None = 8080, name: str = "http") -> Object:
    ports = [{"name": name, "port": port, "protocol": "TCP"}]
    return {"addressType": "IPv4", "endpoints": list(endpoints), "ports": ports}


HTTP: Object = {"name": "http", "port": 80, "protocol": "TCP"}


def addresses(*slices: Object) -> list[str]:
    [route] = routes_of(service(HTTP), slices, node_port_address="127.0.0.1")
    return [f"{each.address}:{each.port}" for each in route.endpoints]


def test_cluster_ip_and_node_port_lead_to_the_named_target_port() -> None:
    made = service({**HTTP, "nodePort": 30080}, type="NodePort")
    routes = routes_of(made, [slice_of(endpoint("127.1.0.1"))], node_port_address="127.0.0.1")
    assert [route.listen for route in routes] == [Listen("127.96.0.5", 80), Listen("127.0.0.1", 30080)]
    [there] = routes[0].endpoints
    assert (there.address, there.port, there.uid, there.node) == ("127.1.0.1", 8080, "uid-127.1.0.1", "n")


@pytest.mark.parametrize(
    "made",
    [
        service(HTTP, clusterIP="None", clusterIPs=["None"]),
        service(HTTP, type="ExternalName", clusterIP="", clusterIPs=[]),
        service({**HTTP, "protocol": "UDP"}),
    ],
)
def test_some_services_have_no_routes(made: Object) -> None:
    assert routes_of(made, [slice_of(endpoint("127.1.0.1"))], node_port_address="127.0.0.1") == []


def test_only_ready_endpoints_once_each_and_in_order() -> None:
    ready = endpoint("127.1.0.2", ready=True, serving=True, terminating=False)
    assert addresses(
        slice_of(ready, endpoint("127.1.0.3", ready=False, serving=False, terminating=False)),
        slice_of(ready, endpoint("127.1.0.1")),
        slice_of(endpoint("127.1.0.9"), name="other"),
        slice_of(endpoint("127.1.0.8"), port=None),
    ) == ["127.1.0.1:8080", "127.1.0.2:8080"]


def test_ending_endpoints_serve_when_no_other_does() -> None:
    ending = endpoint("127.1.0.1", ready=False, serving=True, terminating=True)
    dead = endpoint("127.1.0.2", ready=False, serving=False, terminating=True)
    assert addresses(slice_of(ending, dead)) == ["127.1.0.1:8080"]
    assert addresses(slice_of(ending, dead, endpoint("127.1.0.3", ready=True))) == ["127.1.0.3:8080"]


def route(*names: str, affinity_seconds: int = 0) -> Route:
    return Route(
        listen=Listen("127.96.0.5", 80),
        service=ObjectKey("default", "web"),
        port_name="",
        endpoints=tuple(Endpoint(name, 1) for name in names),
        affinity_seconds=affinity_seconds,
    )


def first(balancer: Balancer, client: str = "c", now: float = 0.0) -> str:
    return balancer.candidates(client, now)[0].address


def test_round_robin_and_what_to_try_next() -> None:
    balancer = Balancer(route("a", "b", "c"))
    assert [first(balancer) for _ in range(4)] == ["a", "b", "c", "a"]
    assert [each.address for each in balancer.candidates("c", 0)] == ["b", "c", "a"]
    balancer.update(route("x"))
    assert first(balancer) == "x"
    balancer.update(route())
    assert balancer.candidates("c", 0) == ()


def test_affinity_holds_until_it_ends_or_its_endpoint_goes() -> None:
    balancer = Balancer(route("a", "b", affinity_seconds=60))
    chosen = balancer.candidates("c", 0)[0]
    balancer.connected("c", chosen, 0)
    assert {first(balancer, now=now) for now in (1, 30, 59)} == {"a"}
    assert first(balancer, "other") == "b"
    assert [first(balancer, now=70), first(balancer, now=70)] == ["a", "b"]
    balancer.connected("c", chosen, 70)
    balancer.update(route("b", affinity_seconds=60))
    assert first(balancer, now=71) == "b"
