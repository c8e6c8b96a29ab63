"""What a namespace uses is counted when limits change and when objects go."""

from __future__ import annotations

from typing import Any

from anynode.api.objects import Object, ObjectKey, key_of, with_path
from anynode.api.resources import Catalogue, builtin, known
from anynode.client.discovery import Served
from anynode.controllers.pods import PODS
from anynode.controllers.resourcequota import QUOTAS, RESYNC_SECONDS, ResourceQuotaController
from anynode.controllers.served_kinds import DEFINITIONS

CONFIG_MAPS = known("configmaps")


def start(cluster: Any) -> None:
    kinds = Catalogue(each for each in builtin() if each.qualified in ("pods", "configmaps", "services", "events"))

    async def ask() -> Served:
        return Served(kinds)

    cluster.start(ResourceQuotaController(cluster.context, ask=ask).run)


def quota(hard: Object, **spec: Any) -> Object:
    return {"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": hard, **spec}, "status": {}}


def pod(name: str, cpu: str = "100m", phase: str = "Running") -> Object:
    resources = {"requests": {"cpu": cpu}}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "resources": resources}]},
        "status": {"phase": phase},
    }


def status(cluster: Any) -> Object:
    found: Object = cluster.get(QUOTAS, "q")["status"]
    return found


async def test_a_new_quota_is_counted(cluster: Any) -> None:
    start(cluster)
    for each in (pod("a"), pod("b", "200m"), pod("over", phase="Succeeded")):
        cluster.api.add(PODS, each)
    hard = {"pods": "5", "requests.cpu": "1", "count/pods": "9", "count/widgets.example.com": "1"}
    cluster.api.add(QUOTAS, quota(hard))
    await cluster.settle()
    assert status(cluster) == {"hard": hard, "used": {"pods": "2", "requests.cpu": "300m", "count/pods": "3"}}


async def test_what_goes_or_ends_is_given_back(cluster: Any) -> None:
    start(cluster)
    for name in ("a", "b", "c"):
        cluster.api.add(PODS, pod(name))
    cluster.api.add(QUOTAS, quota({"pods": "5"}))
    await cluster.settle()
    assert status(cluster)["used"] == {"pods": "3"}
    cluster.api.remove(PODS, key_of(pod("a")))
    await cluster.settle()
    assert status(cluster)["used"] == {"pods": "2"}
    cluster.set_status(pod("b"), PODS, phase="Failed")
    await cluster.settle()
    assert status(cluster)["used"] == {"pods": "1"}


async def test_changed_limits_are_taken_over_and_old_ones_forgotten(cluster: Any) -> None:
    start(cluster)
    cluster.api.add(PODS, pod("a"))
    cluster.api.add(QUOTAS, quota({"pods": "5", "configmaps": "1"}))
    await cluster.settle()
    cluster.api.put(QUOTAS, with_path(cluster.get(QUOTAS, "q"), ("spec", "hard"), {"pods": "2", "cpu": "1"}))
    await cluster.settle()
    assert status(cluster) == {"hard": {"pods": "2", "cpu": "1"}, "used": {"pods": "1", "cpu": "100m"}}


async def test_scopes_leave_pods_out(cluster: Any) -> None:
    start(cluster)
    cluster.api.add(PODS, pod("a"))
    cluster.api.add(PODS, {**pod("short"), "spec": {**pod("short")["spec"], "activeDeadlineSeconds": 5}})
    cluster.api.add(QUOTAS, quota({"pods": "5"}, scopes=["Terminating"]))
    await cluster.settle()
    assert status(cluster)["used"] == {"pods": "1"}


async def test_a_charge_is_not_counted_away_while_its_object_is_on_the_way(cluster: Any) -> None:
    start(cluster)
    cluster.api.add(PODS, pod("a"))
    cluster.api.add(PODS, pod("b"))
    cluster.api.add(QUOTAS, quota({"pods": "5"}))
    await cluster.settle()
    cluster.set_status(cluster.get(QUOTAS, "q"), QUOTAS, used={"pods": "3"})
    await cluster.settle(0.1)
    cluster.api.remove(PODS, key_of(pod("a")))
    await cluster.settle(0.1)
    assert status(cluster)["used"] == {"pods": "3"}, "a third pod was admitted a moment ago"
    cluster.api.add(PODS, pod("c"))
    await cluster.settle(2)
    assert status(cluster)["used"] == {"pods": "2"}


async def test_everything_is_counted_anew_now_and_then(cluster: Any) -> None:
    start(cluster)
    cluster.api.add(QUOTAS, quota({"pods": "5"}))
    await cluster.settle()
    cluster.set_status(cluster.get(QUOTAS, "q"), QUOTAS, used={"pods": "4"})
    await cluster.settle(10)
    assert status(cluster)["used"] == {"pods": "4"}
    await cluster.settle(RESYNC_SECONDS)
    assert status(cluster)["used"] == {"pods": "0"}


async def test_a_kind_that_is_gone_is_counted_and_watched_no_more(cluster: Any) -> None:
    kinds = [each for each in builtin() if each.qualified in ("pods", "configmaps")]

    async def ask() -> Served:
        return Served(Catalogue(kinds))

    cluster.start(ResourceQuotaController(cluster.context, ask=ask).run)
    cluster.api.add(CONFIG_MAPS, {"metadata": {"name": "c", "namespace": "default"}})
    cluster.api.add(QUOTAS, quota({"count/configmaps": "5", "pods": "3"}))
    await cluster.settle(3)
    assert status(cluster)["used"] == {"count/configmaps": "1", "pods": "0"}
    kinds.remove(CONFIG_MAPS)
    cluster.api.add(DEFINITIONS, {"metadata": {"name": "configmaps.example.com"}})
    await cluster.settle(3)
    assert not any(each.resource is CONFIG_MAPS for each in cluster.api.watches)
    kinds.append(CONFIG_MAPS)
    cluster.api.add(CONFIG_MAPS, {"metadata": {"name": "d", "namespace": "default"}})
    cluster.api.remove(DEFINITIONS, ObjectKey("", "configmaps.example.com"))
    await cluster.settle(3)
    assert status(cluster)["used"] == {"count/configmaps": "2", "pods": "0"}
