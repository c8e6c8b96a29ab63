"""What may grow: claims by their class, pods by their node."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.admission.chain import Attributes, Chain
from anynode.admission.resizing import NodeDeclaredFeatureValidator, PersistentVolumeClaimResize, PodResizeValidator
from anynode.api import resources
from anynode.api.errors import Forbidden
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import Resource
from anynode.api.wire import User

PODS = resources.known("pods")
CLAIMS = resources.known("persistentvolumeclaims")


async def changed(new: Object, old: Object, *stored: Object, resource: Resource = PODS, subresource: str = "") -> None:
    found = {each["metadata"]["name"]: each for each in stored}

    def lookup(_: Resource, key: ObjectKey) -> Object | None:
        return found.get(key.name)

    plugins = [PersistentVolumeClaimResize(lookup), NodeDeclaredFeatureValidator(lookup), PodResizeValidator(lookup)]
    await Chain(plugins).admit(
        Attributes(
            operation="UPDATE", resource=resource, subresource=subresource, obj=new, old=old, user=User(name="u")
        )
    )


def claim(size: str, name: str | None = "gold", phase: str = "Bound") -> Object:
    spec = {"storageClassName": name, "resources": {"requests": {"storage": size}}}
    return {"metadata": {"name": "c"}, "spec": spec, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("new", "old", "why"),
    [
        (claim("2Gi"), claim("1Gi"), ""),
        (claim("1Gi", "fixed"), claim("1024Mi", "fixed"), ""),
        (claim("1Gi", "fixed"), claim("2Gi", "fixed"), ""),
        (claim("2Gi"), claim("1Gi", phase="Pending"), "Only bound persistent volume claims can be expanded"),
        (claim("2Gi", "fixed"), claim("1Gi", "fixed"), "only dynamically provisioned pvc can be resized"),
        (claim("2Gi", "gone"), claim("1Gi", "gone"), "only dynamically provisioned pvc can be resized"),
        (claim("2Gi", None), claim("1Gi", None), "only dynamically provisioned pvc can be resized"),
    ],
)
async def test_claims(new: Object, old: Object, why: str) -> None:
    classes = ({"metadata": {"name": "gold"}, "allowVolumeExpansion": True}, {"metadata": {"name": "fixed"}})
    if not why:
        await changed(new, old, *classes, resource=CLAIMS)
        return
    with pytest.raises(Forbidden, match=why):
        await changed(new, old, *classes, resource=CLAIMS)


def pod(generation: int, requests: Object, node: str = "n", **spec: Any) -> Object:
    containers = [{"name": "c", "resources": {"requests": requests}}]
    return {
        "metadata": {"name": "p", "generation": generation},
        "spec": {"nodeName": node, "containers": containers, **spec},
    }


def node(labels: Object | None = None, features: list[str] | None = None) -> Object:
    status = {"allocatable": {"cpu": "2", "memory": "1Gi"}, "declaredFeatures": features or []}
    return {"metadata": {"name": "n", "labels": labels or {}}, "status": status}


@pytest.mark.parametrize(
    ("new", "stored", "why", "reason"),
    [
        (pod(2, {"cpu": "2"}), node(), "", ""),
        (pod(1, {"cpu": "9"}), node(), "", ""),
        (pod(2, {"cpu": "9"}, node=""), node(), "", ""),
        (pod(2, {"cpu": "9"}, node="gone"), node(), 'node "gone" not found', ""),
        (
            pod(2, {"cpu": "2100m", "memory": "2Gi"}),
            node(),
            "node didn't have enough allocatable resources: cpu, requested: 2100, allocatable: 2000; memory, "
            "requested: 2147483648, allocatable: 1073741824",
            "NodeCapacity",
        ),
        (
            pod(2, {"cpu": "1"}),
            node({"kubernetes.io/os": "windows"}),
            'pod resize is only supported on linux nodes, node "n" is "windows"',
            "UnsupportedPlatform",
        ),
    ],
)
async def test_pods(new: Object, stored: Object, why: str, reason: str) -> None:
    if not why:
        await changed(new, pod(1, {}), stored, subresource="resize")
        return
    with pytest.raises(Forbidden) as caught:
        await changed(new, pod(1, {}), stored, subresource="resize")
    assert caught.value.message == f'pods "p" is forbidden: {why}'
    assert [each.reason for each in caught.value.causes] == ([reason] if reason else [])


async def test_a_node_must_declare_what_a_change_needs() -> None:
    level = pod(2, {}, resources={"requests": {"cpu": "1"}})
    with pytest.raises(Forbidden) as caught:
        await changed(level, pod(1, {}), node(), subresource="resize")
    assert caught.value.message.endswith(
        'pod update requires features InPlacePodLevelResourcesVerticalScaling which are not available on node "n"'
    )
    await changed(level, pod(1, {}), node(features=["InPlacePodLevelResourcesVerticalScaling"]), subresource="resize")
    first: Object = {"name": "i", "resources": {}}
    after = pod(2, {}, initContainers=[{**first, "resources": {"limits": {"cpu": "1"}}}])
    with pytest.raises(Forbidden, match="InPlacePodVerticalScalingInitContainers"):
        await changed(after, pod(1, {}, initContainers=[first]), node())
    sidecar = [{**each, "restartPolicy": "Always"} for each in after["spec"]["initContainers"]]
    before = pod(1, {}, initContainers=[{**first, "restartPolicy": "Always"}])
    await changed(pod(2, {}, initContainers=sidecar), before, node())
