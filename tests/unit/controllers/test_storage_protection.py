"""Storage objects in deletion stay while they are used, and go then."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api.objects import Object, key_of, meta, with_meta
from anynode.api.resources import Resource
from anynode.controllers.pods import PODS
from anynode.controllers.storage_protection import (
    ATTRIBUTE_CLASS_FINALIZER,
    ATTRIBUTE_CLASSES,
    CLAIM_FINALIZER,
    CLAIMS,
    VOLUME_FINALIZER,
    VOLUMES,
    AttributesClassProtectionController,
    ClaimProtectionController,
    VolumeProtectionController,
)

DELETED = "2026-01-01T00:00:00Z"


def claim(**metadata: Any) -> Object:
    return {"metadata": {"name": "c", "namespace": "default", **metadata}, "spec": {}}


def pod(*, node: str = "n", **volume: Any) -> Object:
    return {
        "metadata": {"name": "p", "namespace": "default", "uid": "u"},
        "spec": {"nodeName": node, "volumes": [{"name": "v", **volume}]},
        "status": {"phase": "Running"},
    }


def there(cluster: Any, resource: Resource) -> list[list[str]]:
    return [meta(each).get("finalizers") or [] for each in cluster.api.objects(resource)]


async def test_a_claim_waits_for_its_pod(cluster: Any) -> None:
    cluster.start(ClaimProtectionController(cluster.context).run)
    user = pod(persistentVolumeClaim={"claimName": "c"})
    cluster.api.add(PODS, user)
    cluster.api.add(CLAIMS, claim(finalizers=[CLAIM_FINALIZER], deletionTimestamp=DELETED))
    await cluster.settle()
    assert there(cluster, CLAIMS) == [[CLAIM_FINALIZER]]
    cluster.api.remove(PODS, key_of(user))
    await cluster.settle()
    assert there(cluster, CLAIMS) in ([], [[]])


async def test_a_claim_without_its_finalizer_gets_it(cluster: Any) -> None:
    cluster.start(ClaimProtectionController(cluster.context).run)
    cluster.api.add(CLAIMS, claim())
    await cluster.settle()
    assert there(cluster, CLAIMS) == [[CLAIM_FINALIZER]]


@pytest.mark.parametrize(
    ("user", "owner", "held"),
    [
        (pod(node="", persistentVolumeClaim={"claimName": "c"}), "", False),
        (pod(persistentVolumeClaim={"claimName": "other"}), "", False),
        (pod(ephemeral={}), "u", True),
        (pod(ephemeral={}), "somebody", False),
        (with_meta(pod(ephemeral={}), deletionTimestamp=DELETED, deletionGracePeriodSeconds=0), "u", False),
    ],
)
async def test_who_holds_a_claim(cluster: Any, user: Object, owner: str, held: bool) -> None:
    cluster.start(ClaimProtectionController(cluster.context).run)
    metadata: Object = {"finalizers": [CLAIM_FINALIZER], "deletionTimestamp": DELETED}
    if owner:
        metadata |= {"name": "p-v", "ownerReferences": [{"kind": "Pod", "uid": owner, "controller": True}]}
    cluster.api.add(PODS, with_meta(user, finalizers=["keep"]))
    cluster.api.add(CLAIMS, claim(**metadata))
    await cluster.settle()
    assert (there(cluster, CLAIMS) == [[CLAIM_FINALIZER]]) is held


async def test_a_volume_waits_until_it_is_released(cluster: Any) -> None:
    cluster.start(VolumeProtectionController(cluster.context).run)
    metadata = {"name": "v", "finalizers": [VOLUME_FINALIZER], "deletionTimestamp": DELETED}
    volume: Object = {"metadata": metadata, "spec": {}, "status": {"phase": "Bound"}}
    cluster.api.add(VOLUMES, volume)
    await cluster.settle()
    assert there(cluster, VOLUMES) == [[VOLUME_FINALIZER]]
    cluster.set_status(volume, VOLUMES, phase="Released")
    await cluster.settle()
    assert there(cluster, VOLUMES) in ([], [[]])


async def test_a_class_waits_for_claims_and_volumes_that_name_it(cluster: Any) -> None:
    cluster.start(AttributesClassProtectionController(cluster.context).run)
    user = claim() | {"spec": {"volumeAttributesClassName": "gold"}}
    cluster.api.add(CLAIMS, user)
    finalizers = [ATTRIBUTE_CLASS_FINALIZER, "other/one"]
    gold = {"metadata": {"name": "gold", "finalizers": finalizers, "deletionTimestamp": DELETED}}
    cluster.api.add(ATTRIBUTE_CLASSES, gold)
    await cluster.settle()
    assert there(cluster, ATTRIBUTE_CLASSES) == [finalizers]
    cluster.api.put(CLAIMS, cluster.get(CLAIMS, "c") | {"spec": {}})
    await cluster.settle()
    assert there(cluster, ATTRIBUTE_CLASSES) == [["other/one"]]
