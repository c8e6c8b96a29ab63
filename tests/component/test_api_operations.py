"""Every operation on every kind whose API operations Kubernetes' conformance tests go through.

Discovery, create, get, list here and everywhere, watch, patch, update, ``status``, delete, delete collection; the same
walk for each kind. Source: ``test/e2e`` of kubernetes 1.36, the tests named "... API operations" and "... lifecycle".
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.component.api_client import Client, served

from anynode.api.objects import Object

POD = {"containers": [{"name": "c", "image": "nginx"}]}
NEVER = {**POD, "restartPolicy": "Never"}
NOW = "2026-01-01T00:00:00.000000Z"
CONDITION = {
    "type": "StatusUpdate",
    "status": "True",
    "reason": "E2E",
    "message": "Set from a test",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
CONSTRAINTS = {
    "resourceRules": [
        {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}
    ]
}


def _request(name: str) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    pem = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(pem.public_bytes(serialization.Encoding.PEM)).decode()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind and the least that makes one. ``status``: what is written through the subresource and read back."""

    group: str
    version: str
    plural: str
    body: Object
    namespaced: bool = True
    status: Object | None = None
    change: Object = dataclasses.field(default_factory=dict)
    name: str = "a"

    @property
    def root(self) -> str:
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def path(self) -> str:
        return f"{self.root}/namespaces/default/{self.plural}" if self.namespaced else f"{self.root}/{self.plural}"

    def named(self, name: str) -> Object:
        return {**self.body, "metadata": {"name": name, "labels": {"special": "yes"}}}


def _kind(named: str, body: Object, **said: Any) -> Kind:
    group_version, _, plural = named.rpartition("/")
    group, _, version = group_version.rpartition("/")
    return Kind(group=group, version=version, plural=plural, body=body, **said)


def _cluster(named: str, body: Object, **said: Any) -> Kind:
    return _kind(named, body, namespaced=False, **said)


LEVEL = {"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}
DEVICE_REQUEST = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}
ALLOCATED = {"request": "r", "driver": "d.example.com", "pool": "p", "device": "gpu"}
VALIDATION = {"matchConstraints": CONSTRAINTS, "validations": [{"expression": "object.spec.replicas > 1"}]}
MUTATION = {
    "matchConstraints": CONSTRAINTS,
    "reinvocationPolicy": "IfNeeded",
    "mutations": [
        {
            "patchType": "ApplyConfiguration",
            "applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: 2}}"},
        }
    ],
}
CSI_VOLUME = {
    "capacity": {"storage": "1Gi"},
    "accessModes": ["ReadWriteOnce"],
    "csi": {"driver": "d.example.com", "volumeHandle": "h"},
    "storageClassName": "s",
}
CLAIM = {
    "accessModes": ["ReadWriteOnce"],
    "resources": {"requests": {"storage": "1Gi"}},
    "storageClassName": "s",
}
INVOLVED = {"kind": "Pod", "namespace": "default", "name": "p"}

KINDS = [
    _cluster(
        "flowcontrol.apiserver.k8s.io/v1/flowschemas",
        {
            "spec": {
                "matchingPrecedence": 10000,
                "priorityLevelConfiguration": {"name": "global-default"},
                "distinguisherMethod": {"type": "ByUser"},
                "rules": [
                    {
                        "subjects": [{"kind": "User", "user": {"name": "example-e2e-non-existent-user"}}],
                        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                    }
                ],
            }
        },
        status={"conditions": [{**CONDITION, "type": "Dangling"}]},
        change={"spec": {"matchingPrecedence": 9999}},
    ),
    _cluster(
        "flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
        {"spec": LEVEL},
        status={"conditions": [CONDITION]},
        change={"spec": {"limited": {"nominalConcurrencyShares": 4}}},
    ),
    _cluster(
        "certificates.k8s.io/v1/certificatesigningrequests",
        {
            "spec": {
                "request": _request("e2e"),
                "signerName": "example.com/e2e",
                "usages": ["digital signature", "key encipherment", "server auth"],
                "expirationSeconds": 3600,
            }
        },
        status={"conditions": [{**CONDITION, "type": "Example", "lastUpdateTime": "2026-01-01T00:00:00Z"}]},
    ),
    _cluster(
        "resource.k8s.io/v1/deviceclasses",
        {"spec": {"selectors": [{"cel": {"expression": "device.driver == 'd.example.com'"}}]}},
        change={"spec": {"extendedResourceName": "example.com/gpu"}},
    ),
    _kind(
        "resource.k8s.io/v1/resourceclaims",
        {"spec": DEVICE_REQUEST},
        status={"allocation": {"devices": {"results": [ALLOCATED]}}},
    ),
    _kind("resource.k8s.io/v1/resourceclaimtemplates", {"spec": {"spec": DEVICE_REQUEST}}),
    _cluster(
        "resource.k8s.io/v1/resourceslices",
        {
            "spec": {
                "driver": "d.example.com",
                "nodeName": "n",
                "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
                "devices": [{"name": "gpu"}],
            }
        },
        change={"spec": {"devices": [{"name": "gpu"}, {"name": "gpu-1"}]}},
    ),
    _cluster(
        "admissionregistration.k8s.io/v1/mutatingadmissionpolicies",
        {"spec": MUTATION},
        change={"spec": {"failurePolicy": "Ignore"}},
    ),
    _cluster(
        "admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings",
        {"spec": {"policyName": "p"}},
        change={"spec": {"paramRef": None}},
    ),
    _cluster(
        "admissionregistration.k8s.io/v1/validatingadmissionpolicies",
        {"spec": VALIDATION},
        status={"conditions": [CONDITION]},
        change={"spec": {"failurePolicy": "Ignore"}},
    ),
    _cluster(
        "admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
        {"spec": {"policyName": "p", "validationActions": ["Deny"]}},
        change={"spec": {"validationActions": ["Warn"]}},
    ),
    _kind(
        "batch/v1/cronjobs",
        {"spec": {"schedule": "0 0 31 12 *", "jobTemplate": {"spec": {"template": {"spec": NEVER}}}}},
        status={"lastScheduleTime": "2026-01-01T00:00:00Z"},
        change={"spec": {"suspend": True}},
    ),
    _kind("v1/configmaps", {"data": {"k": "v"}}, change={"data": {"more": "v"}}),
    _kind("v1/secrets", {"data": {"k": "dmFsdWU="}}, change={"data": {"more": "dmFsdWU="}}),
    _kind(
        "v1/endpoints",
        {"subsets": [{"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80}]}]},
        change={"subsets": [{"addresses": [{"ip": "10.0.0.25"}], "ports": [{"name": "http-test", "port": 8080}]}]},
    ),
    _kind(
        "discovery.k8s.io/v1/endpointslices",
        {
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["1.2.3.4", "5.6.7.8"]}],
            "ports": [{"name": "p", "port": 80}],
        },
        change={"endpoints": [{"addresses": ["1.2.3.5"]}]},
    ),
    _kind(
        "v1/events",
        {"involvedObject": INVOLVED, "type": "Normal", "reason": "Test", "message": "one"},
        change={"message": "two"},
    ),
    _kind(
        "events.k8s.io/v1/events",
        {
            "regarding": INVOLVED,
            "type": "Normal",
            "reason": "Test",
            "action": "Do",
            "note": "one",
            "eventTime": NOW,
            "reportingController": "test-controller",
            "reportingInstance": "test-node",
        },
        change={"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}},
    ),
    _kind(
        "networking.k8s.io/v1/ingresses",
        {"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}},
        status={"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}},
    ),
    _cluster("networking.k8s.io/v1/ingressclasses", {"spec": {"controller": "example.com/controller"}}),
    _kind(
        "coordination.k8s.io/v1/leases",
        {"spec": {"holderIdentity": "holder", "leaseDurationSeconds": 30, "leaseTransitions": 0}},
        change={"spec": {"leaseDurationSeconds": 60, "leaseTransitions": 1}},
    ),
    _kind(
        "v1/limitranges",
        {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}},
        change={"spec": {"limits": [{"type": "Pod", "max": {"cpu": "2"}}]}},
    ),
    _cluster("v1/nodes", {"spec": {"podCIDR": "10.0.1.0/24"}}, status={"phase": "Running"}),
    _kind("v1/podtemplates", {"template": {"spec": POD}}, change={"template": {"metadata": {"labels": {"a": "b"}}}}),
    _cluster("scheduling.k8s.io/v1/priorityclasses", {"value": 2, "description": "d"}, change={"description": "e"}),
    _cluster("node.k8s.io/v1/runtimeclasses", {"handler": "h"}),
    _kind(
        "v1/services",
        {"spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80}]}},
        status={"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}},
        change={"spec": {"selector": {"a": "b"}}},
    ),
    _kind("v1/serviceaccounts", {}, change={"automountServiceAccountToken": False}),
    _cluster("storage.k8s.io/v1/csidrivers", {"spec": {"attachRequired": False}}),
    _cluster(
        "storage.k8s.io/v1/csinodes",
        {"spec": {"drivers": []}},
        change={"spec": {"drivers": [{"name": "d.example.com", "nodeID": "n", "topologyKeys": ["t"]}]}},
    ),
    _kind(
        "storage.k8s.io/v1/csistoragecapacities",
        {"storageClassName": "s", "nodeTopology": {"matchLabels": {"a": "b"}}, "capacity": "1Gi"},
        change={"capacity": "2Gi"},
    ),
    _cluster(
        "v1/persistentvolumes",
        {"spec": CSI_VOLUME},
        status={"message": "StatusPatched", "reason": "E2E"},
        change={"spec": {"persistentVolumeReclaimPolicy": "Delete"}},
    ),
    _kind(
        "v1/persistentvolumeclaims",
        {"spec": CLAIM},
        status={"conditions": [{"type": "StatusUpdated", "status": "True", "reason": "E2E", "message": "m"}]},
    ),
    _cluster(
        "storage.k8s.io/v1/storageclasses",
        {"provisioner": "e2e.example.com", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"},
        change={"allowVolumeExpansion": True},
    ),
    _cluster(
        "storage.k8s.io/v1/volumeattachments",
        {"spec": {"attacher": "a.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}},
        status={"attached": True, "attachmentMetadata": {"k": "v"}},
    ),
    _cluster(
        "storage.k8s.io/v1/volumeattributesclasses",
        {"driverName": "d.example.com", "parameters": {"iops": "100"}},
    ),
]
OF_KINDS = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.group or 'core'}/{kind.plural}")
WITH_STATUS = [kind for kind in KINDS if kind.status]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with served() as client:
        yield client


def holds(found: Any, said: Any) -> bool:
    """Whether everything that was said is found."""
    if isinstance(said, dict):
        return all(value is None or holds(found.get(key), value) for key, value in said.items())
    if isinstance(said, list):
        return len(found or ()) == len(said) and all(holds(*pair) for pair in zip(found or (), said, strict=True))
    return bool(found == said)


async def gone(client: Client, target: str) -> None:
    """Delete; an object kept by finalizers goes without them."""
    await client.delete(target)
    left = await client.ask("GET", target)
    if left.status == 200:
        assert left.decoded()["metadata"]["deletionTimestamp"]
        await client.merge(target, {"metadata": {"finalizers": None}})
    assert (await client.ask("GET", target)).status == 404


@OF_KINDS
async def test_a_kind_is_found_in_discovery(client: Client, kind: Kind) -> None:
    if kind.group:
        groups = {each["name"]: each for each in (await client.get("/apis"))["groups"]}
        assert kind.version in [each["version"] for each in groups[kind.group]["versions"]]
        assert (await client.get(f"/apis/{kind.group}"))["preferredVersion"]["version"] == kind.version
    resources = {each["name"]: each for each in (await client.get(kind.root))["resources"]}
    assert resources[kind.plural]["namespaced"] is kind.namespaced
    wanted = {"create", "get", "list", "watch", "patch", "update", "delete", "deletecollection"}
    assert wanted - set(resources[kind.plural]["verbs"]) <= (
        {"deletecollection"} if kind.plural == "services" else set()
    )
    assert (f"{kind.plural}/status" in resources) >= (kind.status is not None)


@OF_KINDS
async def test_every_operation(client: Client, kind: Kind) -> None:
    selected = f"{kind.path}?labelSelector=special%3Dyes"
    async with client.watching(selected) as sink:
        made = await client.post(kind.path, kind.named("a"))
        assert made["metadata"]["uid"]
        assert holds(made, kind.body)
        assert (await client.get(f"{kind.path}/a"))["metadata"] == made["metadata"]
        for target in (selected, f"{kind.root}/{kind.plural}?labelSelector=special%3Dyes"):
            assert [each["metadata"]["uid"] for each in (await client.get(target))["items"]] == [
                made["metadata"]["uid"]
            ]
        patched = await client.merge(
            f"{kind.path}/a", {"metadata": {"annotations": {"patched": "true"}}, **kind.change}
        )
        assert holds(patched, kind.change)
        assert int(patched["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
        annotations = {**patched["metadata"]["annotations"], "updated": "true"}
        changed = {**patched, "metadata": {**patched["metadata"], "annotations": annotations}}
        updated = await client.put(f"{kind.path}/a", changed)
        assert updated["metadata"]["annotations"]["updated"] == "true"
        stale = await client.ask("PUT", f"{kind.path}/a", made)
        assert stale.status == 409
        await gone(client, f"{kind.path}/a")
        seen = await sink.reach(4)
    assert sink.types[:3] == ["ADDED", "MODIFIED", "MODIFIED"]
    assert sink.types[-1] == "DELETED"
    assert seen[1][1]["metadata"]["annotations"]["patched"] == "true"
    assert seen[2][1]["metadata"]["annotations"]["updated"] == "true"


@OF_KINDS
async def test_a_collection_goes_by_its_label(client: Client, kind: Kind) -> None:
    for name in ("a", "b"):
        await client.post(kind.path, kind.named(name))
    other = kind.named("other")
    await client.post(kind.path, {**other, "metadata": {"name": "other"}})
    selected = f"{kind.path}?labelSelector=special%3Dyes"
    await client.delete(selected)
    for left in (await client.get(selected))["items"]:
        await client.merge(f"{kind.path}/{left['metadata']['name']}", {"metadata": {"finalizers": None}})
    assert (await client.get(selected))["items"] == []
    assert (await client.ask("GET", f"{kind.path}/other")).status == 200


@pytest.mark.parametrize("kind", WITH_STATUS, ids=lambda kind: f"{kind.group or 'core'}/{kind.plural}")
async def test_a_status_is_written_through_its_subresource_alone(client: Client, kind: Kind) -> None:
    await client.post(kind.path, kind.named("a"))
    status = f"{kind.path}/a/status"
    patched = await client.merge(status, {"metadata": {"annotations": {"patched": "true"}}, "status": kind.status})
    assert holds(patched["status"], kind.status)
    if kind.plural not in ("nodes", "persistentvolumes"):
        ignored = await client.merge(f"{kind.path}/a", {"status": {"conditions": None, "loadBalancer": None}})
        assert holds(ignored["status"], kind.status)
    before = await client.get(status)
    assert holds(before["status"], kind.status)
    again = await client.put(status, before)
    assert holds(again["status"], kind.status)
    assert {**again, "metadata": None, "status": None} == {**before, "metadata": None, "status": None}


async def test_a_request_for_a_certificate_is_approved_through_its_subresource(client: Client) -> None:
    kind = next(kind for kind in KINDS if kind.plural == "certificatesigningrequests")
    resources = {each["name"]: each for each in (await client.get(kind.root))["resources"]}
    for name in ("approval", "status"):
        assert set(resources[f"{kind.plural}/{name}"]["verbs"]) == {"get", "patch", "update"}
    await client.post(kind.path, kind.named("a"))
    approval = f"{kind.path}/a/approval"
    approved = {"type": "Approved", "status": "True", "reason": "E2E", "message": "Set from an e2e test"}
    read = await client.get(approval)
    updated = await client.put(approval, {**read, "status": {"conditions": [approved]}})
    assert holds(updated["status"]["conditions"], [approved])
    elsewhere = await client.merge(f"{kind.path}/a", {"status": {"conditions": []}})
    assert holds(elsewhere["status"]["conditions"], [approved])
    denied = {**approved, "type": "Denied"}
    said = await client.refused(422, "PUT", approval, {**updated, "status": {"conditions": [approved, denied]}})
    assert "Approved and Denied conditions are mutually exclusive" in said
