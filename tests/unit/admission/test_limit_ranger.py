"""Defaults are merged and told, bounds are kept, in upstream's words."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.admission.chain import Attributes, Chain
from anynode.admission.limit_ranger import ANNOTATION, LimitRanger
from anynode.api import resources
from anynode.api.errors import Forbidden
from anynode.api.objects import Object, annotations_of
from anynode.api.wire import User

PODS = resources.known("pods")
CLAIMS = resources.known("persistentvolumeclaims")


def ranges(*limits: Object) -> Chain:
    found = [{"metadata": {"name": "limits", "namespace": "ns"}, "spec": {"limits": list(limits)}}]
    return Chain([LimitRanger(lambda _, namespace: found if namespace == "ns" else ())])


def pod(*containers: Object, **spec: Any) -> Object:
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers), **spec}}


def container(name: str = "c", **resources: Any) -> Object:
    return {"name": name, "resources": resources}


async def admitted(chain: Chain, obj: Object, **more: Any) -> Object:
    given = {"operation": "CREATE", "resource": PODS, "namespace": "ns"} | more
    found = await chain.admit(Attributes(obj=obj, user=User(name="u"), **given))
    assert found is not None
    return found


async def refusal(chain: Chain, obj: Object, **more: Any) -> str:
    with pytest.raises(Forbidden) as caught:
        await admitted(chain, obj, **more)
    return caught.value.message


async def test_defaults_fill_what_is_not_said_and_are_told() -> None:
    chain = ranges({"type": "Container", "default": {"cpu": "500m", "memory": "500Mi"}, "defaultRequest": {"cpu": "1"}})
    init = {"initContainers": [{"name": "i"}]}
    found = await admitted(chain, pod(container(limits={"cpu": "2"}), container("d", requests={"cpu": "3"}), **init))
    first, second = found["spec"]["containers"]
    assert first["resources"] == {"limits": {"cpu": "2", "memory": "500Mi"}, "requests": {"cpu": "1"}}
    assert second["resources"] == {"limits": {"cpu": "500m", "memory": "500Mi"}, "requests": {"cpu": "3"}}
    assert annotations_of(found)[ANNOTATION] == (
        "LimitRanger plugin set: cpu request for container c; memory limit for container c; cpu, memory limit for "
        "container d; cpu request for init container i; cpu, memory limit for init container i"
    )


async def test_what_says_everything_is_left_as_it_is() -> None:
    given = pod(container(limits={"cpu": "2"}, requests={"cpu": "1"}))
    assert await admitted(ranges({"type": "Container", "default": {"cpu": "1"}}), given) is given
    assert await admitted(ranges({"type": "Pod"}), given) is given
    assert await admitted(ranges({"type": "Container", "max": {"cpu": "1"}}), given, namespace="other") is given


@pytest.mark.parametrize(
    ("limit", "resources", "why"),
    [
        ({"min": {"cpu": "100m"}}, {}, "minimum cpu usage per Container is 100m.  No request is specified"),
        (
            {"min": {"cpu": "100m"}},
            {"requests": {"cpu": "50m"}},
            "minimum cpu usage per Container is 100m, but request is 50m",
        ),
        (
            {"min": {"cpu": "100m"}},
            {"requests": {"cpu": "1"}, "limits": {"cpu": "10m"}},
            "minimum cpu usage per Container is 100m, but limit is 10m",
        ),
        ({"max": {"memory": "1Gi"}}, {}, "maximum memory usage per Container is 1Gi.  No limit is specified"),
        (
            {"max": {"memory": "1Gi"}},
            {"limits": {"memory": "2Gi"}},
            "maximum memory usage per Container is 1Gi, but limit is 2Gi",
        ),
        (
            {"max": {"memory": "1Gi"}},
            {"limits": {"memory": "1Gi"}, "requests": {"memory": "3Gi"}},
            "maximum memory usage per Container is 1Gi, but request is 3Gi",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"limits": {"cpu": "3"}},
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"requests": {"cpu": "3"}},
            "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"requests": {"cpu": "1"}, "limits": {"cpu": "3"}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
    ],
)
async def test_a_container_keeps_its_bounds(limit: Object, resources: Object, why: str) -> None:
    chain = ranges({"type": "Container", **limit})
    assert await refusal(chain, pod(container(**resources))) == f'pods "p" is forbidden: {why}'
    resize: Object = {"operation": "UPDATE", "subresource": "resize", "old": pod()}
    assert await refusal(chain, pod(container(**resources)), **resize) == f'pods "p" is forbidden: {why}'
    await admitted(chain, pod(container(**resources)), operation="UPDATE", old=pod())


async def test_a_pod_is_bound_by_what_its_containers_use_together() -> None:
    chain = ranges({"type": "Pod", "max": {"cpu": "2", "memory": "1Gi"}})
    one = container(limits={"cpu": "1500m", "memory": "600Mi"})
    assert await refusal(chain, pod(one, {**one, "name": "d"})) == (
        'pods "p" is forbidden: [maximum cpu usage per Pod is 2, but limit is 3, '
        "maximum memory usage per Pod is 1Gi, but limit is 1200Mi]"
    )
    sidecar = {**one, "restartPolicy": "Always"}
    assert "limit is 3" in await refusal(chain, pod(one, initContainers=[sidecar]))
    await admitted(chain, pod(one, initContainers=[one]))
    await admitted(chain, pod(one, one, resources={"limits": {"cpu": "2", "memory": "1Gi"}}))


async def test_claims_are_bound_by_what_they_request() -> None:
    chain = ranges({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}})

    def claim(size: str) -> Object:
        return {"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": size}}}}

    said = await refusal(chain, claim("500Mi"), resource=CLAIMS)
    assert said.endswith("minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi")
    said = await refusal(chain, claim("3Gi"), resource=CLAIMS, operation="UPDATE", old=claim("1Gi"))
    assert said.endswith("maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi")
    deleted = {"metadata": {"name": "c", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    await admitted(chain, claim("3Gi"), resource=CLAIMS, operation="UPDATE", old=deleted)
