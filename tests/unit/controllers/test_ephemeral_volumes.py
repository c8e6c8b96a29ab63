"""Claims that are made for one pod."""

from __future__ import annotations

from typing import Any

from anynode.api.errors import Forbidden
from anynode.api.objects import Object, key_of, labels_of, meta, name_of
from anynode.controllers.ephemeral_volumes import EphemeralVolumeController
from anynode.controllers.pods import PODS
from anynode.controllers.storage_protection import CLAIMS


def start(cluster: Any) -> None:
    cluster.start(EphemeralVolumeController(cluster.context).run)


def pod(**metadata: Any) -> Object:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    volumes = [{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}, {"name": "w", "emptyDir": {}}]
    return {"metadata": {"name": "p", "namespace": "default", "uid": "u", **metadata}, "spec": {"volumes": volumes}}


async def test_a_claim_for_each_volume_again_when_it_goes(cluster: Any) -> None:
    start(cluster)
    cluster.api.add(PODS, pod())
    await cluster.settle()
    (found,) = cluster.api.objects(CLAIMS)
    assert (name_of(found), labels_of(found), found["spec"]) == ("p-v", {"a": "b"}, {"accessModes": ["ReadWriteOnce"]})
    (owner,) = meta(found)["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Pod", "u", True)
    cluster.api.remove(CLAIMS, key_of(found))
    await cluster.settle()
    assert len(cluster.api.objects(CLAIMS)) == 1


async def test_a_pod_that_goes_gets_none(cluster: Any) -> None:
    start(cluster)
    cluster.api.add(PODS, pod(deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["x"]))
    await cluster.settle()
    assert cluster.api.objects(CLAIMS) == []


async def test_a_claim_in_the_way_is_told_of(cluster: Any) -> None:
    start(cluster)
    cluster.api.add(CLAIMS, {"metadata": {"name": "p-v", "namespace": "default"}, "spec": {}})
    cluster.api.add(PODS, pod())
    await cluster.settle()
    said = "ephemeral volume v: PVC default/p-v was not created for pod default/p (pod is not owner)"
    assert cluster.events.said == [f"Warning FailedBinding: {said}"]


async def test_a_refused_claim_is_told_of_and_tried_again(cluster: Any) -> None:
    start(cluster)
    cluster.api.refuse(Forbidden("exceeded quota"), method="POST", path="persistentvolumeclaims", times=1)
    cluster.api.add(PODS, pod())
    await cluster.settle(3)
    assert cluster.events.said == ["Warning FailedBinding: ephemeral volume v: create PVC p-v: exceeded quota"]
    assert len(cluster.api.objects(CLAIMS)) == 1
