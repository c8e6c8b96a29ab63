"""Namespaces: what is made in them, and how they end. The choice of controllers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from anynode.api.errors import Forbidden
from anynode.api.objects import Object, ObjectKey, condition_of, get_path, meta, name_of, with_meta
from anynode.api.resources import Catalogue, GroupVersion, builtin
from anynode.client.discovery import Served
from anynode.controllers.manager import CONTROLLERS, chosen
from anynode.controllers.namespace import NAMESPACES, NamespaceController, Remains, look_again_seconds, plan_conditions
from anynode.controllers.pods import PODS
from anynode.controllers.root_ca import CONFIG_MAPS, NAME, RootCaController
from anynode.controllers.serviceaccount import SERVICE_ACCOUNTS, ServiceAccountController


def namespace(name: str = "ns", *, dying: bool = False) -> Object:
    made = {"metadata": {"name": name}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    if not dying:
        return made
    return with_meta(made, deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["kubernetes.io/test"])


def start(cluster: Any) -> None:
    async def ask() -> Served:
        return Served(Catalogue(each for each in builtin() if each in (PODS, CONFIG_MAPS, SERVICE_ACCOUNTS)))

    cluster.start(NamespaceController(cluster.context, ask=ask).run)


async def test_pods_go_first(cluster: Any) -> None:
    start(cluster)
    container = {
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running"},
    }
    cluster.api.add(PODS, container)
    cluster.api.add(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "ns"}})
    cluster.api.add(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "other"}})
    cluster.api.add(NAMESPACES, namespace(dying=True))
    await cluster.settle()
    assert meta(cluster.pods()[0])["deletionTimestamp"]
    assert len(cluster.api.objects(CONFIG_MAPS)) == 2
    found = cluster.get(NAMESPACES, "ns")
    assert found["status"]["phase"] == "Terminating"
    remaining = condition_of(found, "NamespaceContentRemaining")
    assert remaining["message"] == "Some resources are remaining: pods. has 1 resource instances"
    cluster.run_pods()
    await cluster.settle(3)
    assert [meta(each)["namespace"] for each in cluster.api.objects(CONFIG_MAPS)] == ["other"]
    assert get_path(cluster.get(NAMESPACES, "ns"), "spec", "finalizers") == []
    assert condition_of(cluster.get(NAMESPACES, "ns"), "NamespaceContentRemaining")["status"] == "False"


async def test_what_cannot_be_deleted_is_told(cluster: Any) -> None:
    start(cluster)
    cluster.api.refuse(Forbidden("not these"), method="DELETE", path="configmaps", times=1)
    cluster.api.add(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "ns"}})
    cluster.api.add(NAMESPACES, namespace(dying=True))
    await cluster.settle(0.3)
    failure = condition_of(cluster.get(NAMESPACES, "ns"), "NamespaceDeletionContentFailure")
    assert failure["status"] == "True"
    assert failure["message"] == "Failed to delete all resource types, 1 remaining: not these"
    await cluster.settle(3)
    assert get_path(cluster.get(NAMESPACES, "ns"), "spec", "finalizers") == []


async def test_a_group_that_is_away_holds_the_namespace_but_not_what_others_serve(cluster: Any) -> None:
    away = {GroupVersion("metrics.k8s.io", "v1beta1"): "stale GroupVersion discovery: metrics.k8s.io/v1beta1"}

    async def ask() -> Served:
        return Served(Catalogue(each for each in builtin() if each in (PODS, CONFIG_MAPS)), away)

    cluster.start(NamespaceController(cluster.context, ask=ask).run)
    cluster.api.add(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "ns"}})
    cluster.api.add(NAMESPACES, namespace(dying=True))
    await cluster.settle(3)
    assert cluster.api.objects(CONFIG_MAPS) == []
    failure = condition_of(cluster.get(NAMESPACES, "ns"), "NamespaceDeletionDiscoveryFailure")
    assert (failure["status"], failure["reason"]) == ("True", "DiscoveryFailed")
    assert failure["message"] == (
        "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: "
        "metrics.k8s.io/v1beta1: stale GroupVersion discovery: metrics.k8s.io/v1beta1"
    )
    assert get_path(cluster.get(NAMESPACES, "ns"), "spec", "finalizers") == ["kubernetes"]
    away.clear()
    await cluster.settle(3)
    assert get_path(cluster.get(NAMESPACES, "ns"), "spec", "finalizers") == []
    failure = condition_of(cluster.get(NAMESPACES, "ns"), "NamespaceDeletionDiscoveryFailure")
    assert (failure["status"], failure["reason"]) == ("False", "ResourcesDiscovered")


async def test_a_server_that_says_nothing_of_what_it_serves_is_told(cluster: Any) -> None:
    async def ask() -> Served:
        raise Forbidden("not for you")

    cluster.start(NamespaceController(cluster.context, ask=ask).run)
    cluster.api.add(NAMESPACES, namespace(dying=True))
    await cluster.settle(3)
    failure = condition_of(cluster.get(NAMESPACES, "ns"), "NamespaceDeletionDiscoveryFailure")
    assert (failure["status"], failure["message"]) == ("True", "not for you")


@pytest.mark.parametrize(
    ("estimate", "age", "seconds"),
    [(0, 1.0, 0.5), (15, 1.0, 1.0), (15, 50.0, 5.0), (15, 5000.0, 8.5), (0, 50.0, 5.0), (0, 5000.0, 60.0)],
)
def test_what_cannot_go_is_looked_at_less_often_as_time_goes_by(estimate: int, age: float, seconds: float) -> None:
    assert look_again_seconds(Remains(estimate_seconds=estimate), age) == seconds


async def test_what_can_only_be_deleted_together_is(cluster: Any) -> None:
    blind = dataclasses.replace(CONFIG_MAPS, verbs=("delete", "deletecollection"))

    async def ask() -> Served:
        return Served(Catalogue([PODS, blind]))

    cluster.start(NamespaceController(cluster.context, ask=ask).run)
    cluster.api.add(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "ns"}})
    cluster.api.add(NAMESPACES, namespace(dying=True))
    await cluster.settle(3)
    assert cluster.api.objects(CONFIG_MAPS) == []
    assert get_path(cluster.get(NAMESPACES, "ns"), "spec", "finalizers") == []


def test_conditions_change_only_where_something_changed() -> None:
    first = plan_conditions([], Remains(), 0.0)
    assert [each["status"] for each in first] == ["False"] * 5
    assert plan_conditions(first, Remains(), 99.0) == first
    held = Remains(counts={"configmaps.": 2})
    held.finalizers["example.com/hold"] = 2
    second = plan_conditions(first, held, 99.0)
    changed = [each["type"] for each, old in zip(second, first, strict=True) if each != old]
    assert changed == ["NamespaceContentRemaining", "NamespaceFinalizersRemaining"]
    assert second[4]["message"].endswith("finalizers remaining: example.com/hold in 2 resource instances")


async def test_every_living_namespace_has_account_and_certificate(cluster: Any) -> None:
    cluster.start(
        ServiceAccountController(cluster.context).run, RootCaController(cluster.context, certificate="PEM").run
    )
    cluster.api.add(NAMESPACES, namespace("a"), {**namespace("dying"), "status": {"phase": "Terminating"}})
    await cluster.settle()
    cluster.api.add(NAMESPACES, namespace("b"))
    await cluster.settle()
    for resource in (SERVICE_ACCOUNTS, CONFIG_MAPS):
        assert sorted(meta(each)["namespace"] for each in cluster.api.objects(resource)) == ["a", "b"]
    cluster.api.remove(SERVICE_ACCOUNTS, ObjectKey("a", "default"))
    cluster.api.put(CONFIG_MAPS, {"metadata": {"name": NAME, "namespace": "a"}, "data": {}})
    cluster.api.remove(CONFIG_MAPS, ObjectKey("b", NAME))
    await cluster.settle()
    assert len(cluster.api.objects(SERVICE_ACCOUNTS)) == 2
    assert [each["data"] for each in cluster.api.objects(CONFIG_MAPS)] == [{"ca.crt": "PEM"}] * 2
    assert {name_of(each) for each in cluster.api.objects(CONFIG_MAPS)} == {NAME}


def test_controllers_are_chosen_by_name() -> None:
    available = ["a", "b", "c"]
    assert chosen(["*"], available) == available
    assert chosen(["*", "-b"], available) == ["a", "c"]
    assert chosen(["*,-a,-b"], available) == ["c"]
    assert chosen(["b"], available) == ["b"]
    with pytest.raises(ValueError, match="no such controller: nonsense"):
        chosen(["nonsense"], available)
    assert {"deployment", "garbage-collector"} <= set(CONTROLLERS)
