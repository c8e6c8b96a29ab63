"""Built-in admission over a whole API server: what is refused, what is charged, what is added, in one request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from anynode.aio.clock import SystemClock
from anynode.api.objects import Object
from anynode.api.wire import ApiRequest, ApiResponse, User, parse_query
from anynode.apiserver.assembly import ApiServerSettings, Assembly
from anynode.storage.memory import MemoryStorage

ADMIN = User(name="admin", groups=("system:masters",))
HOME = "/api/v1/namespaces/default"
STORAGE = "/apis/storage.k8s.io/v1"


class Client:
    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly

    async def ask(self, method: str, target: str, body: Any = None, media: str = "application/json") -> ApiResponse:
        path, _, query = target.partition("?")
        raw = b"" if body is None else orjson.dumps(body)
        headers = {"content-type": media}
        request = ApiRequest(method=method, path=path, query=parse_query(query), headers=headers, body=raw, user=ADMIN)
        return await self.assembly.server.handle(request)

    async def get(self, target: str) -> Any:
        return (await self.ask("GET", target)).decoded()

    async def post(self, target: str, body: Object) -> Any:
        return (await self.ask("POST", target, body)).decoded()

    async def merge(self, target: str, body: Object) -> Any:
        return (await self.ask("PATCH", target, body, "application/merge-patch+json")).decoded()

    async def limit(self, hard: Object) -> None:
        """A quota, counted: nothing is there yet."""
        await self.post(f"{HOME}/resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": hard}})
        status = {"hard": hard, "used": dict.fromkeys(hard, "0")}
        found = await self.merge(f"{HOME}/resourcequotas/q/status", {"status": status})
        assert found["status"] == status

    async def used(self) -> Object:
        found: Object = (await self.get(f"{HOME}/resourcequotas/q"))["status"]["used"]
        return found


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with (
        MemoryStorage() as storage,
        Assembly(storage, clock=SystemClock(), random=random.Random(1), settings=ApiServerSettings()) as assembly,
    ):
        found = Client(assembly)
        await found.post(f"{HOME}/serviceaccounts", {"metadata": {"name": "default"}})
        yield found


def pod(name: str, **container: Any) -> Object:
    spec = {"automountServiceAccountToken": False, "containers": [{"name": "c", "image": "i", **container}]}
    return {"metadata": {"name": name}, "spec": spec}


async def test_pods_created_at_once_never_exceed_their_quota(client: Client) -> None:
    await client.limit({"pods": "10"})
    found = await asyncio.gather(*(client.ask("POST", f"{HOME}/pods", pod(f"p{each}")) for each in range(32)))
    assert sorted(each.status for each in found) == [201] * 10 + [403] * 22
    assert await client.used() == {"pods": "10"}
    refused = next(each for each in found if each.status == 403).decoded()
    assert refused["message"].endswith("exceeded quota: q, requested: pods=1, used: pods=10, limited: pods=10")
    entries = (await client.get(f"{HOME}/resourcequotas/q"))["metadata"]["managedFields"]
    assert ("kube-apiserver", "status") in [(each["manager"], each.get("subresource")) for each in entries]


async def test_what_is_invalid_or_only_tried_is_not_charged(client: Client) -> None:
    await client.limit({"pods": "10", "count/configmaps": "1"})
    assert (await client.ask("POST", f"{HOME}/pods", {"metadata": {"name": "Bad!"}, "spec": {}})).status == 422
    assert (await client.ask("POST", f"{HOME}/pods?dryRun=All", pod("p"))).status == 201
    assert await client.used() == {"pods": "0", "count/configmaps": "0"}
    assert (await client.ask("POST", f"{HOME}/configmaps", {"metadata": {"name": "a"}})).status == 201
    assert (await client.ask("POST", f"{HOME}/configmaps", {"metadata": {"name": "b"}})).status == 403
    assert await client.used() == {"pods": "0", "count/configmaps": "1"}


async def test_a_refused_service_gives_its_address_back(client: Client) -> None:
    await client.limit({"services": "0"})
    service = {"metadata": {"name": "s"}, "spec": {"clusterIP": "127.96.0.50", "ports": [{"port": 80}]}}
    for _ in range(2):
        refused = await client.post(f"{HOME}/services", service)
        assert "exceeded quota: q, requested: services=1" in refused["message"]


async def test_limit_range_defaults_are_what_a_quota_charges(client: Client) -> None:
    limit = {"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "300m"}, "max": {"cpu": "2"}}
    await client.post(f"{HOME}/limitranges", {"metadata": {"name": "l"}, "spec": {"limits": [limit]}})
    await client.limit({"requests.cpu": "1"})
    created = await client.post(f"{HOME}/pods", pod("a"))
    assert created["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "1"}, "requests": {"cpu": "300m"}}
    assert await client.used() == {"requests.cpu": "300m"}
    refused = await client.post(f"{HOME}/pods", pod("b", resources={"limits": {"cpu": "3"}}))
    assert refused["message"] == 'pods "b" is forbidden: maximum cpu usage per Container is 2, but limit is 3'


async def test_pod_security_warns_and_refuses(client: Client) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}
    await client.post("/api/v1/namespaces", {"metadata": {"name": "safe", "labels": labels}})
    await client.post("/api/v1/namespaces/safe/serviceaccounts", {"metadata": {"name": "default"}})
    answer = await client.ask("POST", "/api/v1/namespaces/safe/pods", pod("p"))
    assert answer.status == 201
    assert 'would violate PodSecurity \\"restricted:latest\\"' in answer.headers["warning"]
    privileged = pod("q", securityContext={"privileged": True})
    refused = await client.post("/api/v1/namespaces/safe/pods", privileged)
    assert refused["code"] == 403
    assert refused["message"] == (
        'pods "q" is forbidden: violates PodSecurity "baseline:latest": privileged (container "c" must not set '
        "securityContext.privileged=true)"
    )
    wrong = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "strict"}}}
    refused = await client.merge("/api/v1/namespaces/safe", wrong)
    assert (refused["code"], refused["reason"]) == (422, "Invalid")


async def test_claims_get_the_newest_default_class_and_a_finalizer(client: Client) -> None:
    for name, default in (("old", "true"), ("plain", "false"), ("standard", "true")):
        metadata = {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": default}}
        await client.post(f"{STORAGE}/storageclasses", {"metadata": metadata, "provisioner": "x"})
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = await client.post(f"{HOME}/persistentvolumeclaims", {"metadata": {"name": "c"}, "spec": spec})
    assert claim["spec"]["storageClassName"] in ("old", "standard")
    assert claim["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    own = await client.post(
        f"{HOME}/persistentvolumeclaims", {"metadata": {"name": "d"}, "spec": {**spec, "storageClassName": ""}}
    )
    assert own["spec"]["storageClassName"] == ""
    volume = {
        "metadata": {"name": "v"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}},
    }
    made = await client.post("/api/v1/persistentvolumes", volume)
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
    await client.ask("DELETE", f"{HOME}/persistentvolumeclaims/c")
    still = await client.get(f"{HOME}/persistentvolumeclaims/c")
    assert still["metadata"]["deletionTimestamp"]


async def test_ingresses_get_the_default_class(client: Client) -> None:
    path = "/apis/networking.k8s.io/v1"
    backend = {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}
    ingresses = f"{path}/namespaces/default/ingresses"
    plain = await client.post(ingresses, {"metadata": {"name": "before"}, "spec": backend})
    assert "ingressClassName" not in plain["spec"]
    mark = {"ingressclass.kubernetes.io/is-default-class": "true"}
    metadata = {"name": "web", "annotations": mark}
    await client.post(f"{path}/ingressclasses", {"metadata": metadata, "spec": {"controller": "x.y/z"}})
    found = await client.post(ingresses, {"metadata": {"name": "after"}, "spec": backend})
    assert found["spec"]["ingressClassName"] == "web"
    metadata = {"name": "old", "annotations": {"kubernetes.io/ingress.class": "other"}}
    annotated = await client.post(ingresses, {"metadata": metadata, "spec": backend})
    assert "ingressClassName" not in annotated["spec"]


async def test_claims_grow_where_their_class_allows_it(client: Client) -> None:
    for name, grows in (("fixed", False), ("elastic", True)):
        await client.post(
            f"{STORAGE}/storageclasses", {"metadata": {"name": name}, "provisioner": "x", "allowVolumeExpansion": grows}
        )
    more = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    for name in ("fixed", "elastic"):
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": name,
            "resources": {"requests": {"storage": "1Gi"}},
        }
        await client.post(f"{HOME}/persistentvolumeclaims", {"metadata": {"name": name}, "spec": spec})
        path = f"{HOME}/persistentvolumeclaims/{name}"
        await client.merge(path, {"spec": {"volumeName": "v"}})
        await client.merge(f"{path}/status", {"status": {"phase": "Bound"}})
    refused = await client.merge(f"{HOME}/persistentvolumeclaims/fixed", more)
    assert "only dynamically provisioned pvc can be resized" in refused["message"]
    grown = await client.merge(f"{HOME}/persistentvolumeclaims/elastic", more)
    assert grown["spec"]["resources"]["requests"]["storage"] == "2Gi"


async def test_cluster_ips_have_addresses_and_the_range_is_told(client: Client) -> None:
    path = "/apis/networking.k8s.io/v1"
    network = await client.get(f"{path}/servicecidrs/kubernetes")
    assert network["spec"]["cidrs"] == ["127.96.0.0/12"]
    assert network["status"]["conditions"][0]["status"] == "True"
    service = {"metadata": {"name": "s"}, "spec": {"clusterIP": "127.96.0.50", "ports": [{"port": 80}]}}
    await client.post(f"{HOME}/services", service)

    async def told(name: str) -> Any:
        for _ in range(100):
            found = await client.get(f"{path}/ipaddresses/{name}")
            if found.get("kind") == "IPAddress":
                return found["spec"]["parentRef"]
            await asyncio.sleep(0)
        return None

    assert await told("127.96.0.50") == {"resource": "services", "namespace": "default", "name": "s"}
    assert await told("127.96.0.1") == {"resource": "services", "namespace": "default", "name": "kubernetes"}
    await client.ask("DELETE", f"{HOME}/services/s")
    for _ in range(100):
        if (await client.ask("GET", f"{path}/ipaddresses/127.96.0.50")).status == 404:
            return
        await asyncio.sleep(0)
    raise AssertionError("the address outlived its Service")
