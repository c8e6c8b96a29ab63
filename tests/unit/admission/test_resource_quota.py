"""Nothing is admitted beyond a quota, whoever writes at the same time, and the quota's status says what is used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from anynode.admission.chain import Attributes, Chain
from anynode.admission.resource_quota import TRIES, ResourceQuota
from anynode.api import errors, objects, resources
from anynode.api.errors import Conflict, Forbidden
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import Resource
from anynode.api.wire import User
from anynode.testing.clock import FakeClock

PODS = resources.known("pods")
QUOTAS = resources.known("resourcequotas")
USER = User(name="u")


class Stored:
    """Quotas that are replaced by compare-and-swap."""

    def __init__(self, *quotas: Object) -> None:
        self.clock = FakeClock()
        self.quotas = {objects.name_of(each): each for each in quotas}
        self.classes: list[Object] = []
        self.pods: dict[str, Object] = {}
        self.writes = 0
        self.before_write: Callable[[], None] = lambda: None
        self.plugin = ResourceQuota(self.lookup, self.list, self.list_in, self.replace, clock=self.clock)
        self.chain = Chain([self.plugin])

    def lookup(self, resource: Resource, key: ObjectKey) -> Object | None:
        return self.pods.get(key.name)

    def list(self, resource: Resource) -> Iterable[Object]:
        return self.classes

    def list_in(self, resource: Resource, namespace: str) -> Iterable[Object]:
        return list(self.quotas.values()) if resource == QUOTAS and namespace == "ns" else ()

    async def replace(self, resource: Resource, obj: Object) -> Object:
        await asyncio.sleep(0)
        self.before_write()
        name, version = objects.name_of(obj), int(objects.resource_version_of(obj))
        if objects.resource_version_of(self.quotas[name]) != str(version):
            raise errors.conflict(QUOTAS, name)
        self.writes += 1
        self.quotas[name] = objects.with_meta(obj, resourceVersion=str(version + 1))
        return self.quotas[name]

    def used(self, name: str = "q") -> Object:
        found: Object = self.quotas[name]["status"]["used"]
        return found

    async def create(self, obj: Object, resource: Resource = PODS, **more: Any) -> None:
        given = {"operation": "CREATE", "namespace": "ns"} | more
        await self.chain.admit(Attributes(obj=obj, resource=resource, user=USER, **given))

    async def refused(self, obj: Object, resource: Resource = PODS, **more: Any) -> str:
        with pytest.raises(Forbidden) as caught:
            await self.create(obj, resource, **more)
        return caught.value.message


def quota(hard: Object, name: str = "q", used: Object | None = None, **spec: Any) -> Object:
    known = dict.fromkeys(hard, "0") if used is None else used
    return {
        "metadata": {"name": name, "namespace": "ns", "resourceVersion": "1"},
        "spec": {"hard": hard, **spec},
        "status": {"hard": hard, "used": known},
    }


def pod(name: str = "p", requests: Object | None = None, limits: Object | None = None, **spec: Any) -> Object:
    amounts = {"requests": requests or {}, "limits": limits or {}}
    return {
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"containers": [{"name": "c", "resources": amounts}], **spec},
    }


async def test_what_is_admitted_is_charged_and_more_is_refused_in_upstreams_words() -> None:
    stored = Stored(quota({"pods": "2", "requests.cpu": "1", "requests.example.com/gpu": "3"}))
    await stored.create(pod(requests={"cpu": "600m", "example.com/gpu": "1"}))
    assert stored.used() == {"pods": "1", "requests.cpu": "600m", "requests.example.com/gpu": "1"}
    assert await stored.refused(pod(requests={"cpu": "500m", "example.com/gpu": "3"})) == (
        'pods "p" is forbidden: exceeded quota: q, requested: requests.cpu=500m,requests.example.com/gpu=3, '
        "used: requests.cpu=600m,requests.example.com/gpu=1, limited: requests.cpu=1,requests.example.com/gpu=3"
    )
    await stored.create(pod(requests={"cpu": "400m"}))
    assert stored.used() == {"pods": "2", "requests.cpu": "1", "requests.example.com/gpu": "1"}
    assert stored.writes == 2


async def test_dry_runs_and_other_namespaces_charge_nothing() -> None:
    stored = Stored(quota({"pods": "1"}))
    await stored.create(pod(), dry_run=True)
    await stored.create(pod(), namespace="other")
    await stored.create({"metadata": {"name": "e"}}, resources.known("events"))
    assert stored.writes == 0
    await stored.create(pod())
    assert "exceeded quota" in await stored.refused(pod(), dry_run=True)


async def test_compute_that_is_limited_must_be_said() -> None:
    stored = Stored(quota({"limits.memory": "1Gi", "cpu": "1"}))
    two = pod(limits={"memory": "1Mi"}, initContainers=[{"name": "i"}])
    assert await stored.refused(two) == (
        'pods "p" is forbidden: failed quota: q: must specify cpu for: c,i; limits.memory for: i'
    )
    await stored.create(pod(resources={"requests": {"cpu": "1"}}))


async def test_a_quota_not_counted_yet_admits_nothing() -> None:
    stored = Stored(quota({"pods": "5", "cpu": "5"}, used={"pods": "0"}))
    said = await stored.refused(pod(requests={"cpu": "1"}))
    assert said.endswith("status unknown for quota: q, resources: cpu,pods")


@pytest.mark.parametrize(
    ("spec", "inside", "outside"),
    [
        ({"scopes": ["Terminating"]}, pod(activeDeadlineSeconds=1), pod()),
        ({"scopes": ["NotTerminating"]}, pod(), pod(activeDeadlineSeconds=1)),
        ({"scopes": ["BestEffort"]}, pod(), pod(requests={"cpu": "1"})),
        ({"scopes": ["NotBestEffort"]}, pod(limits={"memory": "1"}), pod()),
        ({"scopes": ["PriorityClass"]}, pod(priorityClassName="a"), pod()),
        (
            {"scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "In", "values": ["a"]}]}},
            pod(priorityClassName="a"), pod(priorityClassName="b"),
        ),
        (
            {"scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "NotIn", "values": ["a"]}]}},
            pod(), pod(priorityClassName="a"),
        ),
        (
            {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}},
            pod(), pod(priorityClassName="a"),
        ),
        (
            {"scopes": ["CrossNamespacePodAffinity"]},
            pod(affinity={"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"namespaceSelector": {}}}]}}),
            pod(affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a"}]}}),
        ),
    ],
)  # fmt: skip
async def test_scopes_choose_pods(spec: Object, inside: Object, outside: Object) -> None:
    stored = Stored(quota({"pods": "0"}, **spec))
    await stored.create(outside)
    assert "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0" in await stored.refused(inside)


async def test_an_update_is_charged_what_it_adds() -> None:
    services = resources.known("services")
    stored = Stored(quota({"services.nodeports": "2", "services.loadbalancers": "0"}))
    plain: Object = {"metadata": {"name": "s"}, "spec": {"type": "ClusterIP", "ports": [{"port": 1}]}}
    nodes = objects.with_path(plain, ("spec", "type"), "NodePort")
    await stored.create(nodes, services, operation="UPDATE", old=plain)
    await stored.create(nodes, services, operation="UPDATE", old=nodes)
    assert stored.used() == {"services.nodeports": "1", "services.loadbalancers": "0"}
    balanced = objects.with_path(plain, ("spec", "type"), "LoadBalancer")
    assert "requested: services.loadbalancers=1" in await stored.refused(
        balanced, services, operation="UPDATE", old=nodes
    )


async def test_a_pod_that_changes_scope_is_charged_whole() -> None:
    stored = Stored(quota({"pods": "1"}, scopes=["Terminating"]))
    await stored.create(pod(activeDeadlineSeconds=5), operation="UPDATE", old=pod())
    assert stored.used() == {"pods": "1"}
    await stored.create(pod(activeDeadlineSeconds=4), operation="UPDATE", old=pod(activeDeadlineSeconds=5))
    assert stored.used() == {"pods": "1"}


async def test_claims_count_by_storage_class_and_custom_resources_by_name() -> None:
    name = "gold.storageclass.storage.k8s.io/requests.storage"
    stored = Stored(quota({name: "2Gi", "count/widgets.example.com": "1"}))
    claim = {
        "metadata": {"name": "c"},
        "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "2Gi"}}},
    }
    await stored.create(claim, resources.known("persistentvolumeclaims"))
    widgets = Resource(group="example.com", version="v1", plural="widgets", kind="Widget", namespaced=True)
    await stored.create({"metadata": {"name": "w"}}, widgets)
    assert stored.used() == {name: "2Gi", "count/widgets.example.com": "1"}
    assert "count/widgets.example.com=1" in await stored.refused({"metadata": {"name": "w"}}, widgets)


async def test_device_claims_count_by_class_and_extended_resource() -> None:
    hard = {"gpu.deviceclass.resource.k8s.io/devices": "3", "requests.example.com/gpu": "3"}
    stored = Stored(quota(hard))
    stored.classes = [{"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": "example.com/gpu"}}]
    request = {"name": "r", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}}
    claim = {"metadata": {"name": "c", "namespace": "ns"}, "spec": {"devices": {"requests": [request]}}}
    await stored.create(claim, resources.known("resourceclaims", "resource.k8s.io"))
    assert stored.used() == {"gpu.deviceclass.resource.k8s.io/devices": "2", "requests.example.com/gpu": "2"}
    every = objects.with_path(request, ("exactly", "allocationMode"), "All")
    said = await stored.refused(
        objects.with_path(claim, ("spec", "devices", "requests"), [every]),
        resources.known("resourceclaims", "resource.k8s.io"),
    )
    assert "requested: gpu.deviceclass.resource.k8s.io/devices=32" in said


async def test_32_at_once_never_take_more_than_there_is() -> None:
    stored = Stored(quota({"pods": "10"}), quota({"pods": "20"}, "wide"))
    found = await asyncio.gather(*(stored.create(pod(f"p{each}")) for each in range(32)), return_exceptions=True)
    assert [type(each) for each in found].count(Forbidden) == 22
    assert (stored.used(), stored.used("wide")) == ({"pods": "10"}, {"pods": "10"})
    assert stored.writes <= 6, "those who wait are decided together"


async def test_another_replicas_charge_is_seen_before_deciding_again() -> None:
    stored = Stored(quota({"pods": "2"}))

    def other_replica() -> None:
        stored.before_write = lambda: None
        stored.quotas["q"] = objects.with_meta(quota({"pods": "2"}, used={"pods": "2"}), resourceVersion="7")

    stored.before_write = other_replica
    task = asyncio.ensure_future(stored.refused(pod()))
    await stored.clock.advance(1)
    assert "used: pods=2" in await task
    assert stored.used() == {"pods": "2"}


async def test_a_quota_that_never_stands_still_refuses_with_the_conflict() -> None:
    stored = Stored(quota({"pods": "2"}))

    def moved() -> None:
        now = stored.quotas["q"]
        stored.quotas["q"] = objects.with_meta(now, resourceVersion=str(int(objects.resource_version_of(now)) + 1))

    stored.before_write = moved
    task = asyncio.ensure_future(stored.create(pod()))
    for _ in range(TRIES):
        await stored.clock.advance(1)
    with pytest.raises(Conflict):
        await task


async def test_who_is_cancelled_while_deciding_leaves_the_decision_to_the_next() -> None:
    stored = Stored(quota({"pods": "5"}))
    first = asyncio.ensure_future(stored.create(pod("a")))
    await asyncio.sleep(0)
    others = [asyncio.ensure_future(stored.create(pod(each))) for each in "bc"]
    first.cancel()
    await asyncio.gather(*others)
    assert stored.used() == {"pods": "2"}
    with pytest.raises(asyncio.CancelledError):
        await first
    await stored.create(pod("d"))
    assert stored.used() == {"pods": "3"}


async def test_two_servers_on_one_store_never_take_more_than_there_is() -> None:
    stored = Stored(quota({"pods": "10"}))
    other = Chain([ResourceQuota(stored.lookup, stored.list, stored.list_in, stored.replace, clock=stored.clock)])

    async def create(chain: Chain, name: str) -> None:
        obj, user = pod(name), User(name="u")
        await chain.admit(Attributes(operation="CREATE", resource=PODS, namespace="ns", obj=obj, user=user))

    chains = [stored.chain, other] * 16
    tasks = asyncio.gather(*(create(chain, f"p{each}") for each, chain in enumerate(chains)), return_exceptions=True)
    for _ in range(4 * TRIES):
        await stored.clock.advance(0.1)
    found = await tasks
    assert found.count(None) == int(stored.used()["pods"]) == 10
    assert {type(each) for each in found} == {type(None), Forbidden}
