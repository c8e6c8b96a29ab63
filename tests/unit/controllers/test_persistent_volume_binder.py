"""Claims and volumes find each other, stay together, and part."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api.objects import Object, annotations_of, key_of
from anynode.controllers.persistent_volume_binder import CLASSES, PersistentVolumeBinder
from anynode.controllers.storage_protection import CLAIMS, VOLUMES
from anynode.controllers.volume_binding import BIND_COMPLETED, BOUND_BY_CONTROLLER


def start(cluster: Any) -> None:
    cluster.start(PersistentVolumeBinder(cluster.context).run)


def claim(name: str = "c", size: str = "1Gi", *, modes: Any = ("ReadWriteOnce",), **spec: Any) -> Object:
    wanted = {"accessModes": list(modes), "resources": {"requests": {"storage": size}}, **spec}
    return {"metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"}, "spec": wanted}


def volume(name: str, size: str = "1Gi", labels: Object | None = None, **spec: Any) -> Object:
    given = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], **spec}
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": given}


def phase(cluster: Any, name: str, resource: Any = CLAIMS) -> str:
    found: str = cluster.get(resource, name)["status"]["phase"]
    return found


def bound_to(cluster: Any, name: str = "c") -> str:
    return str(cluster.get(CLAIMS, name)["spec"].get("volumeName", ""))


async def test_the_smallest_volume_that_fits_is_bound(cluster: Any) -> None:
    start(cluster)
    for each in (volume("large", "9Gi"), volume("fits", "2Gi"), volume("small", "1Mi")):
        cluster.api.add(VOLUMES, each)
    await cluster.settle()
    assert phase(cluster, "fits", VOLUMES) == "Available"
    cluster.api.add(CLAIMS, claim())
    await cluster.settle()
    found, held = cluster.get(CLAIMS, "c"), cluster.get(VOLUMES, "fits")
    assert found["spec"]["volumeName"] == "fits"
    assert annotations_of(found) == {BIND_COMPLETED: "yes", BOUND_BY_CONTROLLER: "yes"}
    assert (found["status"]["phase"], found["status"]["capacity"]) == ("Bound", {"storage": "2Gi"})
    assert (held["spec"]["claimRef"]["name"], held["spec"]["claimRef"]["uid"]) == ("c", "uid-c")
    assert (phase(cluster, "fits", VOLUMES), phase(cluster, "large", VOLUMES)) == ("Bound", "Available")


@pytest.mark.parametrize(
    ("asked", "there", "fits"),
    [
        (claim(), volume("v"), True),
        (claim(modes=["ReadWriteMany"]), volume("v"), False),
        (claim(volumeMode="Block"), volume("v"), False),
        (claim(storageClassName="gold"), volume("v"), False),
        (claim(storageClassName="gold"), volume("v", storageClassName="gold"), True),
        (claim(selector={"matchLabels": {"a": "b"}}), volume("v"), False),
        (claim(selector={"matchLabels": {"a": "b"}}), volume("v", labels={"a": "b"}), True),
        (claim(size="2Gi"), volume("v"), False),
        (claim(), volume("v", claimRef={"namespace": "default", "name": "other"}), False),
        (claim(), volume("v", claimRef={"namespace": "default", "name": "c"}), True),
        (claim(volumeName="v", storageClassName="any"), volume("v"), True),
    ],
)
async def test_what_fits(cluster: Any, asked: Object, there: Object, fits: bool) -> None:
    start(cluster)
    cluster.api.add(VOLUMES, there)
    cluster.api.add(CLAIMS, asked)
    await cluster.settle()
    assert phase(cluster, "c") == ("Bound" if fits else "Pending")
    assert bound_to(cluster) == ("v" if fits else "")


async def test_a_waiting_claim_takes_a_volume_that_comes_later(cluster: Any) -> None:
    start(cluster)
    cluster.api.add(CLAIMS, claim())
    await cluster.settle()
    assert phase(cluster, "c") == "Pending"
    assert set(cluster.events.said) == {
        "Normal FailedBinding: no persistent volumes available for this claim and no storage class is set"
    }
    cluster.api.add(VOLUMES, volume("late"))
    await cluster.settle()
    assert (phase(cluster, "c"), bound_to(cluster)) == ("Bound", "late")


async def test_a_claim_is_marked_for_its_provisioner_unless_it_waits_for_a_pod(cluster: Any) -> None:
    start(cluster)
    for name, mode in (("now", "Immediate"), ("later", "WaitForFirstConsumer")):
        cluster.api.add(CLASSES, {"metadata": {"name": name}, "provisioner": "x.io/p", "volumeBindingMode": mode})
        cluster.api.add(CLAIMS, claim(name, storageClassName=name))
    cluster.api.add(VOLUMES, volume("v", storageClassName="later"))
    await cluster.settle()
    marked = annotations_of(cluster.get(CLAIMS, "now"))
    assert marked["volume.kubernetes.io/storage-provisioner"] == "x.io/p"
    assert annotations_of(cluster.get(CLAIMS, "later")) == {}
    assert (phase(cluster, "now"), phase(cluster, "later")) == ("Pending", "Pending")
    assert any("ExternalProvisioning: Waiting for a volume to be created" in said for said in cluster.events.said)
    assert any("WaitForFirstConsumer: waiting for first consumer" in said for said in cluster.events.said)


async def test_a_volume_is_released_with_its_claim_and_a_claim_lost_with_its_volume(cluster: Any) -> None:
    start(cluster)
    for name in ("a", "b"):
        cluster.api.add(VOLUMES, volume(name))
        cluster.api.add(CLAIMS, claim(f"c{name}", volumeName=name))
    await cluster.settle()
    assert (phase(cluster, "ca"), phase(cluster, "cb")) == ("Bound", "Bound")
    cluster.api.remove(CLAIMS, key_of(claim("ca")))
    cluster.api.remove(VOLUMES, key_of(volume("b")))
    await cluster.settle()
    assert phase(cluster, "a", VOLUMES) == "Released"
    assert phase(cluster, "cb") == "Lost"
    assert any(said.startswith("Warning ClaimLost") for said in cluster.events.said)
    cluster.api.add(CLAIMS, claim("again"))
    await cluster.settle()
    assert phase(cluster, "again") == "Pending", "what is released keeps its data and is not given away"
