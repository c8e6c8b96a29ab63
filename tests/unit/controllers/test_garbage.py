"""Garbage collection: the graph, and deletions over a fake API server."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api.errors import Forbidden
from anynode.api.objects import Object, ObjectKey, meta, uid_of, with_meta
from anynode.api.resources import Catalogue, Resource, builtin, known
from anynode.client.discovery import Served
from anynode.controllers.garbage import GarbageCollector
from anynode.controllers.garbage_graph import FOREGROUND, ORPHAN, Graph, node_of
from anynode.controllers.served_kinds import DEFINITIONS

CONFIG_MAPS = known("configmaps")
SECRETS = known("secrets")
NODES = known("nodes")


def reference(owner: Object, kind: str = "ConfigMap", *, block: bool = False) -> Object:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "name": meta(owner)["name"],
        "uid": uid_of(owner),
        "blockOwnerDeletion": block,
    }


def thing(name: str, *owners: Object, namespace: str = "default", **more: Any) -> Object:
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}", **more}
    return {"metadata": {**metadata, "ownerReferences": list(owners)} if owners else metadata}


def dying(obj: Object, finalizer: str) -> Object:
    return with_meta(obj, deletionTimestamp="2026-01-01T00:00:00Z", finalizers=[finalizer])


def test_the_graph_tells_who_must_be_looked_at() -> None:
    graph = Graph()
    owner, child = thing("owner"), thing("child", reference(thing("owner"), block=True))
    assert graph.observe(node_of(CONFIG_MAPS, child)).delete == ["uid-child"]  # its owner is not known yet
    assert graph.observe(node_of(CONFIG_MAPS, owner)).delete == []
    assert graph.observe(node_of(CONFIG_MAPS, child)).delete == []
    work = graph.observe(node_of(CONFIG_MAPS, dying(owner, FOREGROUND)))
    assert work.delete == ["uid-child", "uid-owner"]
    assert graph.forget("uid-child").delete == ["uid-owner"]
    assert graph.observe(node_of(CONFIG_MAPS, dying(owner, ORPHAN))).orphan == ["uid-owner"]
    assert len(graph) == 1
    assert not graph.has_dependents("uid-owner")


async def start(cluster: Any) -> None:
    resources = [CONFIG_MAPS, SECRETS, NODES]

    async def ask() -> Served:
        return Served(Catalogue(each for each in builtin() if each in resources))

    cluster.start(GarbageCollector(cluster.context, ask=ask).run)


def names(cluster: Any, resource: Resource) -> list[str]:
    return sorted(meta(each)["name"] for each in cluster.api.objects(resource))


async def test_dependents_go_with_their_owner_and_not_before(cluster: Any) -> None:
    owner = thing("owner")
    cluster.api.add(CONFIG_MAPS, owner)
    cluster.api.add(SECRETS, thing("child", reference(owner)))
    await start(cluster)
    await cluster.settle(5)
    assert names(cluster, SECRETS) == ["child"]
    grandchild = thing("grandchild", reference(thing("child"), "Secret"))
    cluster.api.add(CONFIG_MAPS, grandchild)
    await cluster.settle()
    cluster.api.remove(CONFIG_MAPS, ObjectKey("default", "owner"))
    await cluster.settle(5)
    assert names(cluster, SECRETS) == []
    assert names(cluster, CONFIG_MAPS) == []


async def test_an_owner_is_missing_only_if_the_server_says_so(cluster: Any) -> None:
    absent = thing("absent")
    cluster.api.add(SECRETS, thing("left", reference(absent)))
    unwatched = cluster.api.add(known("serviceaccounts"), thing("account"))[0]
    cluster.api.add(SECRETS, thing("kept", reference(unwatched, "ServiceAccount")))
    await start(cluster)
    await cluster.settle(5)
    assert names(cluster, SECRETS) == ["kept"]


async def test_one_owner_left_is_enough(cluster: Any) -> None:
    first, second = thing("first"), thing("second")
    cluster.api.add(CONFIG_MAPS, first, second)
    cluster.api.add(SECRETS, thing("child", reference(first), reference(second)))
    await start(cluster)
    await cluster.settle()
    cluster.api.remove(CONFIG_MAPS, ObjectKey("default", "first"))
    await cluster.settle(5)
    assert [each["name"] for each in meta(cluster.get(SECRETS, "child"))["ownerReferences"]] == ["second"]


async def test_an_owner_in_another_namespace_is_no_owner(cluster: Any) -> None:
    owner = thing("owner", namespace="elsewhere")
    cluster.api.add(CONFIG_MAPS, owner)
    cluster.api.add(SECRETS, thing("child", reference(owner)))
    await start(cluster)
    await cluster.settle(5)
    assert names(cluster, SECRETS) == []
    assert cluster.events.said[0].startswith("Warning OwnerRefInvalidNamespace: ownerRef [v1/ConfigMap, namespace: ")


async def test_a_cluster_scoped_owner_counts(cluster: Any) -> None:
    owner = thing("node", namespace="")
    cluster.api.add(NODES, owner)
    cluster.api.add(SECRETS, thing("child", reference(owner, "Node")))
    await start(cluster)
    await cluster.settle()
    cluster.api.remove(NODES, ObjectKey("", "node"))
    await cluster.settle(5)
    assert names(cluster, SECRETS) == []


async def test_foreground_deletion_waits_for_what_blocks_it(cluster: Any) -> None:
    owner = thing("owner")
    cluster.api.add(CONFIG_MAPS, owner)
    held = thing("held", reference(owner, block=True), finalizers=["example.com/hold"])
    cluster.api.add(SECRETS, held, thing("free", reference(owner)))
    await start(cluster)
    await cluster.settle()
    cluster.api.put(CONFIG_MAPS, dying(cluster.get(CONFIG_MAPS, "owner"), FOREGROUND))
    await cluster.settle(5)
    assert names(cluster, SECRETS) == ["held"]
    assert names(cluster, CONFIG_MAPS) == ["owner"]
    await cluster.client.patch(SECRETS, ObjectKey("default", "held"), {"metadata": {"finalizers": None}})
    await cluster.settle(5)
    assert names(cluster, CONFIG_MAPS) == []


async def test_orphans_are_set_free(cluster: Any) -> None:
    owner = thing("owner")
    cluster.api.add(CONFIG_MAPS, owner)
    cluster.api.add(SECRETS, thing("child", reference(owner)))
    await start(cluster)
    await cluster.settle()
    cluster.api.put(CONFIG_MAPS, dying(cluster.get(CONFIG_MAPS, "owner"), ORPHAN))
    await cluster.settle(5)
    assert names(cluster, CONFIG_MAPS) == []
    assert "ownerReferences" not in meta(cluster.get(SECRETS, "child"))


async def test_a_kind_that_cannot_be_listed_holds_up_nothing_for_long(cluster: Any) -> None:
    cluster.api.refuse(Forbidden("not for you"), method="GET", path="/nodes", times=10_000)
    cluster.api.add(SECRETS, thing("left", reference(thing("absent"))))
    await start(cluster)
    await cluster.settle(20)
    assert names(cluster, SECRETS) == ["left"]
    await cluster.settle(20)
    assert names(cluster, SECRETS) == []


@pytest.mark.parametrize("size", [2, 3])
async def test_circles_do_not_hold_each_other(cluster: Any, size: int) -> None:
    circle = [thing(f"t{number}", reference(thing(f"t{(number + 1) % size}"), block=True)) for number in range(size)]
    cluster.api.add(CONFIG_MAPS, *circle)
    await start(cluster)
    await cluster.settle()
    cluster.api.put(CONFIG_MAPS, dying(cluster.get(CONFIG_MAPS, "t0"), FOREGROUND))
    for _ in range(6):
        await cluster.settle(2)
        for each in cluster.api.objects(CONFIG_MAPS):  # what an API server does on a foreground deletion
            deletes = [r for r in cluster.api.requests if r.method == "DELETE" and r.path.endswith(meta(each)["name"])]
            if deletes and not meta(each).get("deletionTimestamp"):
                cluster.api.put(CONFIG_MAPS, dying(each, FOREGROUND))
    assert names(cluster, CONFIG_MAPS) == []


class Changing:
    """A server that serves other kinds from time to time."""

    def __init__(self, *served: Resource) -> None:
        self.served = list(served)

    async def __call__(self) -> Served:
        return Served(Catalogue(each for each in builtin() if each in self.served))


def watched(cluster: Any) -> set[str]:
    return {each.resource.plural for each in cluster.api.watches}


async def define(cluster: Any, name: str) -> None:
    cluster.api.add(DEFINITIONS, {"metadata": {"name": name}})
    await cluster.settle(0.5)


async def test_the_child_of_a_new_kind_goes_with_its_owner_at_once(cluster: Any) -> None:
    kinds = Changing(CONFIG_MAPS)
    cluster.start(GarbageCollector(cluster.context, ask=kinds).run)
    await cluster.settle()
    owner = thing("owner")
    cluster.api.add(SECRETS, owner)
    cluster.api.add(CONFIG_MAPS, thing("child", reference(owner, "Secret")))
    await cluster.settle(5)
    kinds.served.append(SECRETS)
    await define(cluster, "secrets.example.com")
    cluster.api.remove(SECRETS, ObjectKey("default", "owner"))
    await cluster.settle(0.5)
    assert names(cluster, CONFIG_MAPS) == []


async def test_children_that_came_before_the_kind_of_their_owner_are_looked_at_again(cluster: Any) -> None:
    kinds = Changing(CONFIG_MAPS)
    cluster.start(GarbageCollector(cluster.context, ask=kinds).run)
    cluster.api.add(CONFIG_MAPS, thing("child", reference(thing("absent"), "Secret")))
    await cluster.settle(5)
    assert names(cluster, CONFIG_MAPS) == ["child"]  # nobody knows what a Secret is
    kinds.served.append(SECRETS)
    await define(cluster, "secrets.example.com")
    assert names(cluster, CONFIG_MAPS) == []


async def test_a_kind_that_is_gone_is_watched_no_more_and_owns_nothing(cluster: Any) -> None:
    kinds = Changing(CONFIG_MAPS, SECRETS)
    owner = thing("owner")
    cluster.api.add(SECRETS, owner)
    cluster.api.add(CONFIG_MAPS, thing("child", reference(owner, "Secret")))
    cluster.start(GarbageCollector(cluster.context, ask=kinds).run)
    await cluster.settle()
    assert "secrets" in watched(cluster)
    kinds.served.remove(SECRETS)
    await define(cluster, "other.example.com")
    assert "secrets" in watched(cluster)  # its last events may be on their way
    await cluster.settle(2)
    assert "secrets" not in watched(cluster)
    assert names(cluster, CONFIG_MAPS) == ["child"]  # nobody can tell whether its owner is gone
    cluster.api.remove(SECRETS, ObjectKey("default", "owner"))
    kinds.served.append(SECRETS)
    await define(cluster, "secrets.example.com")
    await cluster.settle(2)
    assert names(cluster, CONFIG_MAPS) == []
    assert sum(each.resource is SECRETS for each in cluster.api.watches) == 1
