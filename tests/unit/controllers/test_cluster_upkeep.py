"""Aggregated roles, nodes' time to keep secrets, and ranges of cluster IPs."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api.objects import Object, annotations_of, condition_of, key_of, meta
from anynode.controllers.clusterrole_aggregation import CLUSTER_ROLES, ClusterRoleAggregationController
from anynode.controllers.node_ttl import NODES, TTL, NodeTtlController
from anynode.controllers.service_cidrs import (
    ADDRESSES,
    CIDRS,
    DELETION_SECONDS,
    FINALIZER,
    MANAGED_BY,
    MANAGER,
    ServiceCidrController,
    may_go,
)


def role(name: str, *rules: Object, selects: Object | None = None, **labels: str) -> Object:
    rule = {} if selects is None else {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": selects}]}}
    return {"metadata": {"name": name, "labels": labels}, "rules": list(rules), **rule}


async def test_a_role_holds_the_rules_of_those_it_selects(cluster: Any) -> None:
    read, write = {"verbs": ["get"], "resources": ["pods"]}, {"verbs": ["update"], "resources": ["pods"]}
    cluster.start(ClusterRoleAggregationController(cluster.context).run)
    for each in (
        role("admin", {"verbs": ["old"]}, selects={"to": "admin"}),
        role("b", write, read, to="admin"),
        role("a", read, to="admin"),
        role("other", {"verbs": ["*"]}),
    ):
        cluster.api.add(CLUSTER_ROLES, each)
    await cluster.settle()
    assert cluster.get(CLUSTER_ROLES, "admin")["rules"] == [read, write]
    cluster.api.remove(CLUSTER_ROLES, key_of(role("b")))
    await cluster.settle()
    assert cluster.get(CLUSTER_ROLES, "admin")["rules"] == [read]


async def test_nodes_keep_secrets_longer_in_larger_clusters(cluster: Any) -> None:
    cluster.start(NodeTtlController(cluster.context).run)
    for number in range(101):
        cluster.api.add(NODES, {"metadata": {"name": f"n{number}"}})
        if number in (0, 100):
            await cluster.settle()
            expected = "0" if number == 0 else "15"
            assert annotations_of(cluster.get(NODES, f"n{number}"))[TTL] == expected
    for number in range(1, 10):
        cluster.api.remove(NODES, key_of(cluster.get(NODES, f"n{number}")))
    cluster.api.put(NODES, cluster.get(NODES, "n100") | {"spec": {"unschedulable": True}})
    await cluster.settle()
    assert annotations_of(cluster.get(NODES, "n100"))[TTL] == "15", "92 nodes are not few enough to go back"


async def test_many_nodes_are_annotated_without_haste(cluster: Any) -> None:
    """Thousands that join at once leave the API server to others."""

    def noted() -> int:
        return sum(TTL in annotations_of(cluster.get(NODES, f"n{number}")) for number in range(300))

    cluster.start(NodeTtlController(cluster.context).run)
    for number in range(300):
        cluster.api.add(NODES, {"metadata": {"name": f"n{number}"}})
    await cluster.settle(0.1)
    assert 0 < noted() < 100
    await cluster.settle(5)
    assert noted() == 300


def cidr(name: str, *cidrs: str, **metadata: Any) -> Object:
    return {"metadata": {"name": name, **metadata}, "spec": {"cidrs": list(cidrs)}}


def address(ip: str, manager: str = MANAGER) -> Object:
    return {"metadata": {"name": ip, "labels": {MANAGED_BY: manager}}}


async def test_a_range_is_ready_and_protected(cluster: Any) -> None:
    cluster.start(ServiceCidrController(cluster.context).run)
    cluster.api.add(CIDRS, cidr("extra", "10.1.0.0/24"))
    await cluster.settle()
    found = cluster.get(CIDRS, "extra")
    assert meta(found)["finalizers"] == [FINALIZER]
    condition = condition_of(found, "Ready")
    assert condition is not None
    assert (condition["status"], condition["message"]) == ("True", "Kubernetes Service CIDR is ready")


async def test_a_range_goes_when_no_address_needs_it(cluster: Any) -> None:
    cluster.start(ServiceCidrController(cluster.context).run)
    cluster.api.add(ADDRESSES, address("10.1.0.5"))
    moment = cluster.context.timestamp()
    cluster.api.add(CIDRS, cidr("extra", "10.1.0.0/24", finalizers=[FINALIZER], deletionTimestamp=moment))
    await cluster.settle()
    condition = condition_of(cluster.get(CIDRS, "extra"), "Ready")
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("False", "Terminating")
    cluster.api.remove(ADDRESSES, key_of(address("10.1.0.5")))
    await cluster.settle(DELETION_SECONDS / 2)
    assert meta(cluster.get(CIDRS, "extra"))["finalizers"] == [FINALIZER]
    await cluster.settle(DELETION_SECONDS)
    assert all(not meta(each).get("finalizers") for each in cluster.api.objects(CIDRS))


@pytest.mark.parametrize(
    ("others", "addresses", "expected"),
    [
        ([], [], True),
        ([], [address("10.1.0.5")], False),
        ([], [address("10.1.0.5", "somebody")], True),
        ([], [address("10.2.0.5")], True),
        ([cidr("wide", "10.0.0.0/8")], [address("10.1.0.5")], True),
        ([cidr("part", "10.1.0.0/28")], [address("10.1.0.5")], True),
        ([cidr("part", "10.1.0.0/30")], [address("10.1.0.5")], False),
        ([cidr("six", "fd00::/64")], [address("10.1.0.5")], False),
    ],
)
def test_who_else_holds_the_addresses(others: list[Object], addresses: list[Object], expected: bool) -> None:
    going = cidr("going", "10.1.0.0/24")
    assert may_go(going, [going, *others], addresses) is expected
