"""Endpoints written by hand appear as slices, and only those."""

from __future__ import annotations

from typing import Any

from anynode.api.objects import Object, annotations_of, key_of, labels_of, meta, name_of
from anynode.controllers.endpointslicemirroring import (
    ENDPOINTS,
    MANAGED_BY,
    MANAGER,
    MOST_PER_SLICE,
    SERVICE_NAME,
    SERVICES,
    SKIP,
    SLICES,
    EndpointSliceMirroringController,
    wished,
)


def start(cluster: Any, *, selector: Object | None = None) -> None:
    cluster.start(EndpointSliceMirroringController(cluster.context).run)
    spec: Object = {"ports": [{"port": 80}]} | ({"selector": selector} if selector else {})
    cluster.api.add(SERVICES, {"metadata": {"name": "s", "namespace": "default"}, "spec": spec})


def endpoints(*subsets: Object, **metadata: Any) -> Object:
    metadata = {"name": "s", "namespace": "default", "uid": "u", **metadata}
    return {"metadata": metadata, "subsets": list(subsets)}


def subset(*ips: str, port: int = 80, ready: bool = True, **address: Any) -> Object:
    field = "addresses" if ready else "notReadyAddresses"
    return {field: [{"ip": ip, **address} for ip in ips], "ports": [{"name": "", "port": port, "protocol": "TCP"}]}


def slices(cluster: Any) -> list[Object]:
    return sorted(cluster.api.objects(SLICES), key=lambda each: (each["addressType"], each["ports"][0]["port"]))


async def test_a_slice_per_family_and_ports(cluster: Any) -> None:
    start(cluster)
    given = endpoints(
        subset("10.0.0.1", "fd00::1", hostname="h"),
        subset("10.0.0.2", ready=False),
        subset("10.0.0.3", port=81),
        labels={"mine": "1"},
        annotations={"note": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
    )
    cluster.api.add(ENDPOINTS, given)
    await cluster.settle()
    first, second, third = slices(cluster)
    assert first["endpoints"] == [
        {"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "hostname": "h"},
        {"addresses": ["10.0.0.2"], "conditions": {"ready": False}},
    ]
    assert second["ports"] == [{"name": "", "port": 81, "protocol": "TCP"}]
    assert (third["addressType"], third["endpoints"][0]["addresses"]) == ("IPv6", ["fd00::1"])
    assert labels_of(first) == {"mine": "1", SERVICE_NAME: "s", MANAGED_BY: MANAGER}
    assert annotations_of(first) == {"note": "x"}
    (owner,) = meta(first)["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Endpoints", "u", True)
    assert name_of(first).startswith("s-")


async def test_changes_are_followed_in_place_and_an_end_cleans_up(cluster: Any) -> None:
    start(cluster)
    cluster.api.add(ENDPOINTS, endpoints(subset("10.0.0.1")))
    await cluster.settle()
    (before,) = slices(cluster)
    cluster.api.put(ENDPOINTS, endpoints(subset("10.0.0.9", port=90)))
    await cluster.settle()
    (after,) = slices(cluster)
    assert name_of(after) == name_of(before)
    assert (after["endpoints"][0]["addresses"], after["ports"][0]["port"]) == (["10.0.0.9"], 90)
    cluster.api.remove(ENDPOINTS, key_of(endpoints()))
    await cluster.settle()
    assert slices(cluster) == []


async def test_who_is_not_mirrored(cluster: Any) -> None:
    start(cluster, selector={"app": "a"})
    cluster.api.add(ENDPOINTS, endpoints(subset("10.0.0.1")))
    await cluster.settle()
    assert slices(cluster) == []
    service = cluster.get(SERVICES, "s")
    cluster.api.put(SERVICES, {**service, "spec": {"ports": []}})
    await cluster.settle()
    assert len(slices(cluster)) == 1
    cluster.api.put(ENDPOINTS, endpoints(subset("10.0.0.1"), labels={SKIP: "true"}))
    await cluster.settle()
    assert slices(cluster) == []


async def test_a_deleted_mirror_comes_back(cluster: Any) -> None:
    start(cluster)
    cluster.api.add(ENDPOINTS, endpoints(subset("10.0.0.1")))
    await cluster.settle()
    cluster.api.remove(SLICES, key_of(slices(cluster)[0]))
    await cluster.settle()
    assert len(slices(cluster)) == 1


async def test_what_cannot_be_shown_is_told(cluster: Any) -> None:
    start(cluster)
    many = [f"10.1.{number // 250}.{number % 250 + 1}" for number in range(MOST_PER_SLICE + 1)]
    cluster.api.add(ENDPOINTS, endpoints(subset("nonsense", *many)))
    await cluster.settle()
    assert len(slices(cluster)[0]["endpoints"]) == MOST_PER_SLICE
    assert (
        cluster.events.said[0]
        == "Warning InvalidIPAddress: Skipped 1 invalid IP addresses when mirroring to EndpointSlices"
    )
    assert "A max of 1000 addresses can be mirrored" in cluster.events.said[1]


def test_an_address_with_several_ports_appears_once() -> None:
    (group,) = wished(endpoints(subset("10.0.0.1"), subset("10.0.0.1", port=81))).groups.values()
    assert [each["port"] for each in group["ports"]] == [80, 81]
    assert len(group["endpoints"]) == 1
