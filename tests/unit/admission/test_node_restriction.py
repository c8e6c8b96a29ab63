"""NodeRestriction: what a node must not write, and in which words it is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from anynode.admission.chain import Attributes, Operation
from anynode.admission.node_restriction import NodeRestriction
from anynode.api import resources
from anynode.api.errors import Forbidden, NotFound
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import Resource
from anynode.api.wire import User
from anynode.security.rbac import Attributes as Asked

NODE = User(name="system:node:n1", groups=("system:nodes",))
MIRROR = {"kubernetes.io/config.mirror": "x"}
OWNER = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1", "controller": True}
GROUPS = {
    "leases": "coordination.k8s.io", "csinodes": "storage.k8s.io", "resourceslices": "resource.k8s.io",
    "certificatesigningrequests": "certificates.k8s.io",
}  # fmt: skip


class World:
    def __init__(self) -> None:
        self.objects: dict[tuple[str, ObjectKey], Object] = {}
        self.rights: set[str] = set()
        self.plugin = NodeRestriction(self.lookup, self.may)
        self.put("nodes", {"metadata": {"name": "n1", "uid": "u1"}})
        self.put("pods", {"metadata": {"name": "mine", "namespace": "ns", "uid": "p1"}, "spec": {"nodeName": "n1"}})
        self.put("pods", {"metadata": {"name": "other", "namespace": "ns", "uid": "p2"}, "spec": {"nodeName": "n2"}})

    def lookup(self, resource: Resource, key: ObjectKey) -> Object | None:
        return self.objects.get((resource.plural, key))

    def may(self, _: User, asked: Asked) -> bool:
        return asked.resource in self.rights

    def put(self, plural: str, obj: Object) -> None:
        self.objects[plural, ObjectKey(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])] = obj

    async def write(self, operation: Operation, plural: str, obj: Object | None, **more: Any) -> None:
        group = GROUPS.get(plural, "")
        given = {"namespace": "ns", "name": "", "user": NODE, **more}
        resource = resources.known(plural, group)
        await self.plugin.admit(Attributes(operation=operation, resource=resource, obj=obj, **given))


@pytest.fixture
def world() -> World:
    return World()


def mirror(**metadata: Any) -> Object:
    head = {"name": "m", "namespace": "ns", "annotations": MIRROR, "ownerReferences": [OWNER], **metadata}
    return {"metadata": head, "spec": {"nodeName": "n1", "containers": []}}


async def refused(world: World, operation: Operation, plural: str, obj: Object | None, **more: Any) -> str:
    with pytest.raises(Forbidden) as caught:
        await world.write(operation, plural, obj, **more)
    return caught.value.message.partition("is forbidden: ")[2]


async def test_others_than_nodes_are_left_alone(world: World) -> None:
    for user in (User(name="eve"), User(name="system:node:n1"), User(name="n1", groups=("system:nodes",))):
        await world.write("CREATE", "nodes", {"metadata": {"name": "n2"}}, user=user)


async def test_a_node_without_a_name(world: World) -> None:
    nobody = User(name="system:node:", groups=("system:nodes",))
    said = await refused(world, "CREATE", "nodes", {"metadata": {"name": "n2"}}, user=nobody)
    assert said == 'could not determine node from user "system:node:"'


async def test_a_mirror_pod(world: World) -> None:
    await world.write("CREATE", "pods", mirror())


@pytest.mark.parametrize(
    ("pod", "why"),
    [
        (mirror(annotations={}), 'pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only'),
        ({**mirror(), "spec": {"nodeName": "n2"}}, 'node "n1" can only create pods with spec.nodeName set to itself'),
        (mirror(ownerReferences=[OWNER, OWNER]), 'node "n1" can only create pods with a single owner reference set'),
        (mirror(ownerReferences=[]), 'node "n1" can only create pods with an owner reference set to itself'),
        (mirror(ownerReferences=[{**OWNER, "name": "n2"}]), 'node "n1" can only create pods with an owner reference'),
        (mirror(ownerReferences=[{**OWNER, "controller": False}]), 'node "n1" can only create pods with a controller'),
        (mirror(ownerReferences=[{**OWNER, "blockOwnerDeletion": True}]), 'node "n1" must not set blockOwnerDeletion'),
        (mirror(ownerReferences=[{**OWNER, "uid": "u9"}]), "node n1 UID mismatch: expected u9 got u1"),
        ({**mirror(), "spec": {"nodeName": "n1", "serviceAccountName": "x"}},
         'node "n1" can not create pods that reference serviceaccounts'),
        ({**mirror(), "spec": {"nodeName": "n1", "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}},
         'node "n1" can not create pods that reference secrets'),
        ({**mirror(), "spec": {"nodeName": "n1", "volumes": [{"name": "v", "what": {}}]}},
         "error checking mirror pod for API references: unknown volume type"),
    ],
)  # fmt: skip
async def test_pods_a_node_must_not_create(world: World, pod: Object, why: str) -> None:
    assert (await refused(world, "CREATE", "pods", pod)).startswith(why)


async def test_deleting_and_evicting_own_pods_only(world: World) -> None:
    await world.write("DELETE", "pods", None, name="mine")
    assert "can only delete pods" in await refused(world, "DELETE", "pods", None, name="other")
    with pytest.raises(NotFound, match=r'^pod "none" not found$'):
        await world.write("DELETE", "pods", None, name="none")
    await world.write("CREATE", "pods", {}, name="mine", subresource="eviction")
    assert "can only evict pods" in await refused(world, "CREATE", "pods", {}, name="other", subresource="eviction")
    assert "could not determine pod" in await refused(world, "CREATE", "pods", {}, subresource="eviction")


async def test_a_pod_itself_is_not_changed(world: World) -> None:
    said = await refused(world, "UPDATE", "pods", {}, name="mine")
    assert said == 'unexpected operation "UPDATE", node "n1" can only create and delete mirror pods'
    assert "unexpected pod subresource" in await refused(world, "CREATE", "pods", {}, subresource="binding")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"metadata": {"labels": {"a": "b"}}}, "cannot update labels through pod status"),
        ({"status": {"resourceClaimStatuses": [{"name": "x"}]}}, "cannot update resource claim statues"),
        ({"status": {"extendedResourceClaimStatus": {}}}, "cannot update extended resource claim status"),
    ],
)
async def test_pod_status(world: World, change: Object, why: str) -> None:
    old: Object = {"metadata": {}, "spec": {"nodeName": "n1"}, "status": {}}
    await world.write("UPDATE", "pods", {**old, "status": {"phase": "Running"}}, old=old, subresource="status")
    assert why in await refused(world, "UPDATE", "pods", {**old, **change}, old=old, subresource="status")
    other = {**old, "spec": {"nodeName": "n2"}}
    assert "can only update pod status" in await refused(
        world, "UPDATE", "pods", other, old=other, subresource="status"
    )


NODE_OBJECT: Object = {"metadata": {"name": "n1", "labels": {}}, "spec": {}}


@pytest.mark.parametrize(
    ("label", "allowed"),
    [
        ("kubernetes.io/hostname", True),
        ("topology.kubernetes.io/zone", True),
        ("x.kubelet.kubernetes.io/a", True),
        ("node.kubernetes.io/a", True),
        ("example.com/a", True),
        ("plain", True),
        ("kubernetes.io/a", False),
        ("x.k8s.io/a", False),
        ("node-role.kubernetes.io/master", False),
        ("node-restriction.kubernetes.io/a", False),
        ("x.node-restriction.kubernetes.io/a", False),
    ],
)
async def test_labels_of_its_node(world: World, label: str, allowed: bool) -> None:
    labelled = {**NODE_OBJECT, "metadata": {"name": "n1", "labels": {label: "x"}}}
    if allowed:
        await world.write("CREATE", "nodes", labelled)
        await world.write("UPDATE", "nodes", labelled, old=NODE_OBJECT, name="n1")
        return
    said = await refused(world, "CREATE", "nodes", labelled)
    assert said == f'node "n1" is not allowed to set the following labels: {label}'
    said = await refused(world, "UPDATE", "nodes", labelled, old=NODE_OBJECT, name="n1")
    assert said == f"is not allowed to modify labels: {label}"
    said = await refused(world, "UPDATE", "nodes", NODE_OBJECT, old=labelled, name="n1")
    assert said == f"is not allowed to modify labels: {label}"


async def test_its_node_and_no_other(world: World) -> None:
    said = await refused(world, "CREATE", "nodes", {"metadata": {"name": "n2"}})
    assert said == 'node "n1" is not allowed to modify node "n2"'
    tainted = {**NODE_OBJECT, "spec": {"taints": [{"key": "k"}]}}
    assert "modify taints" in await refused(world, "UPDATE", "nodes", tainted, old=NODE_OBJECT, name="n1")
    owned = {**NODE_OBJECT, "metadata": {"name": "n1", "ownerReferences": [OWNER]}}
    assert "modify ownerReferences" in await refused(world, "UPDATE", "nodes", owned, old=NODE_OBJECT, name="n1")
    configured = {**NODE_OBJECT, "spec": {"configSource": {}}}
    assert "configSource" in await refused(world, "CREATE", "nodes", configured)
    assert "configSource" in await refused(world, "UPDATE", "nodes", configured, old=NODE_OBJECT, name="n1")


async def test_leases_csi_nodes_and_slices(world: World) -> None:
    lease = {"metadata": {"name": "n1"}}
    await world.write("CREATE", "leases", lease, namespace="kube-node-lease")
    await world.write("UPDATE", "leases", lease, old=lease, name="n1", namespace="kube-node-lease")
    assert "can only access leases" in await refused(world, "CREATE", "leases", lease)
    assert "same name" in await refused(world, "UPDATE", "leases", {}, name="n2", namespace="kube-node-lease")
    await world.write("CREATE", "csinodes", lease, namespace="")
    assert "CSINode with the same name" in await refused(world, "DELETE", "csinodes", None, name="n2", namespace="")
    own = {"metadata": {"name": "s"}, "spec": {"nodeName": "n1"}}
    await world.write("CREATE", "resourceslices", own, namespace="")
    assert "only create ResourceSlice" in await refused(world, "CREATE", "resourceslices", {}, namespace="")
    assert "only delete ResourceSlice" in await refused(world, "DELETE", "resourceslices", None, old={}, namespace="")
    await world.write("UPDATE", "resourceslices", {}, old={}, namespace="")


async def test_the_status_of_a_claim_only(world: World) -> None:
    old: Object = {"metadata": {"name": "c", "resourceVersion": "1"}, "status": {}}
    new = {"metadata": {"name": "c"}, "status": {"capacity": {"storage": "1Gi"}, "conditions": []}}
    await world.write("UPDATE", "persistentvolumeclaims", new, old=old, name="c", subresource="status")
    assert await refused(world, "UPDATE", "persistentvolumeclaims", new, old=old) == "may only update PVC status"
    more = {**new, "metadata": {"name": "c", "labels": {"a": "b"}}}
    said = await refused(world, "UPDATE", "persistentvolumeclaims", more, old=old, subresource="status")
    assert said.startswith('node "n1" is not allowed to update fields other than status.quantity')


def token(audience: str = "", **reference: str) -> Object:
    ref = {"apiVersion": "v1", "kind": "Pod", "name": "mine", "uid": "p1", **reference}
    return {"spec": {"boundObjectRef": ref, "audiences": [audience] if audience else []}}


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"spec": {}}, "node requested token not bound to a pod"),
        (token(kind="Secret"), "node requested token not bound to a pod"),
        (token(uid=""), "node requested token with a pod binding without a uid"),
        (token(uid="p9"), "the UID in the bound object reference (p9) does not match the UID in record."),
        (token(name="other", uid="p2"), "node requested token bound to a pod scheduled on a different node"),
        ({"spec": {**token()["spec"], "audiences": ["a", "b"]}}, "node may only request 0 or 1 audiences"),
        (token("vault"), 'audience "vault" not found in pod spec volume, system:node:n1 is not authorized to request'),
    ],
)
async def test_tokens_a_node_gets_not(world: World, request_: Object, why: str) -> None:
    said = await refused(world, "CREATE", "serviceaccounts", request_, subresource="token", name="robot")
    assert said.startswith(why)


async def test_tokens_of_audiences_the_pod_names(world: World) -> None:
    world.rights = {"granted"}
    await world.write("CREATE", "serviceaccounts", token("granted"), subresource="token", name="robot")
    volumes = [
        {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
    ]
    pod = {"metadata": {"name": "mine", "namespace": "ns", "uid": "p1"}, "spec": {"nodeName": "n1", "volumes": volumes}}
    world.put("pods", pod)
    await world.write("CREATE", "serviceaccounts", token("vault"), subresource="token", name="robot")
    said = await refused(world, "CREATE", "serviceaccounts", token("x"), subresource="token", name="robot")
    assert said == 'error validating audience "x": persistentvolumeclaim "claim" not found'
    world.put("persistentvolumeclaims", {"metadata": {"name": "claim", "namespace": "ns"}, "spec": {"volumeName": "v"}})
    world.put("persistentvolumes", {"metadata": {"name": "v"}, "spec": {"csi": {"driver": "d"}}})
    world.put("csidrivers", {"metadata": {"name": "d"}, "spec": {"tokenRequests": [{"audience": "x"}]}})
    await world.write("CREATE", "serviceaccounts", token("x"), subresource="token", name="robot")


def signing_request(name: str, signer: str) -> Object:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    pem = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    encoded = base64.b64encode(pem.public_bytes(serialization.Encoding.PEM)).decode()
    return {"metadata": {"name": "r"}, "spec": {"signerName": signer, "request": encoded}}


async def test_certificates_for_itself_only(world: World) -> None:
    plural, serving = "certificatesigningrequests", "kubernetes.io/kubelet-serving"
    await world.write("CREATE", plural, signing_request("system:node:n1", serving), namespace="")
    await world.write("CREATE", plural, signing_request("anybody", "example.com/x"), namespace="")
    said = await refused(world, "CREATE", plural, signing_request("system:node:n2", serving), namespace="")
    assert said == "can only create a node CSR with CN=system:node:n1"
    broken = {"spec": {"signerName": serving, "request": "AAAA"}}
    assert "unable to parse csr" in await refused(world, "CREATE", plural, broken, namespace="")
