"""Nodes: what one may read follows its pods, as they come, change and go."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api import resources
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import Resource
from anynode.api.wire import User
from anynode.security import bootstrap, pod_references
from anynode.security.node_authorizer import NodeAuthorizer, Relations, node_of
from anynode.security.rbac import Attributes

NODE = User(name="system:node:n1", groups=("system:nodes",))
PODS = resources.known("pods")


class World:
    """Pods and volumes of a cluster with an authorizer on them."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, ObjectKey], Object] = {}
        self.relations = Relations(
            lambda: [(key, pod["spec"]["nodeName"]) for (plural, key), pod in self.objects.items() if plural == "pods"
                     and pod["spec"].get("nodeName")],
            lambda: [each for (plural, _), each in self.objects.items() if plural == "persistentvolumes"],
            self.lookup,
        )  # fmt: skip
        self.authorizer = NodeAuthorizer(self.relations, self.lookup, bootstrap.rules_of_role("system:node"))

    def lookup(self, resource: Resource, key: ObjectKey) -> Object | None:
        return self.objects.get((resource.plural, key))

    def pod(self, name: str, node: str = "n1", **spec: Any) -> None:
        key = ObjectKey("ns", name)
        pod = {"metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": {"nodeName": node, **spec}}
        self.objects["pods", key] = pod
        if self.relations.active:
            self.relations.pod_changed(key, pod)

    def gone(self, name: str) -> None:
        del self.objects["pods", ObjectKey("ns", name)]
        self.relations.pod_changed(ObjectKey("ns", name), None)

    def volume(self, name: str, **spec: Any) -> None:
        volume = {"metadata": {"name": name}, "spec": spec}
        self.objects["persistentvolumes", ObjectKey("", name)] = volume
        if self.relations.active:
            self.relations.volume_changed(name, volume)

    def may(self, verb: str, resource: str, name: str = "", namespace: str = "ns", **more: Any) -> bool:
        group = {"resourceslices": "resource.k8s.io", "resourceclaims": "resource.k8s.io",
                 "leases": "coordination.k8s.io", "csinodes": "storage.k8s.io",
                 "volumeattachments": "storage.k8s.io"}.get(resource, "")  # fmt: skip
        asked = Attributes(verb=verb, group=group, resource=resource, name=name, namespace=namespace, **more)
        return self.authorizer.decide(NODE, asked).allowed


@pytest.fixture
def world() -> World:
    return World()


def test_who_is_a_node() -> None:
    assert node_of(NODE) == "n1"
    assert node_of(User(name="system:node:n1")) is None
    assert node_of(User(name="n1", groups=("system:nodes",))) is None
    assert node_of(User(name="system:node:", groups=("system:nodes",))) == ""


def test_a_node_without_a_name_may_nothing(world: World) -> None:
    nobody = User(name="system:node:", groups=("system:nodes",))
    decision = world.authorizer.decide(nobody, Attributes(verb="list", resource="services"))
    assert decision == (False, 'unknown node for user "system:node:"')


@pytest.mark.parametrize(
    "spec",
    [
        {"imagePullSecrets": [{"name": "s"}]},
        {"containers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]},
        {"initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s"}}}]}]},
        {"ephemeralContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s"}}}]}]},
        {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
        {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]},
        {"volumes": [{"name": "v", "azureFile": {"secretName": "s"}}]},
        {"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}}]},
    ],
)
def test_a_secret_a_pod_names_may_be_read_until_the_pod_goes(world: World, spec: Object) -> None:
    assert not world.may("get", "secrets", "s")
    world.pod("p", **spec)
    assert world.may("get", "secrets", "s")
    assert world.may("watch", "secrets", "s")
    assert not world.may("get", "secrets", "other")
    assert not world.may("get", "secrets", "s", "elsewhere")
    assert not world.may("update", "secrets", "s")
    world.gone("p")
    assert not world.may("get", "secrets", "s")


def test_two_pods_that_name_one_secret(world: World) -> None:
    world.pod("one", imagePullSecrets=[{"name": "s"}])
    world.pod("two", imagePullSecrets=[{"name": "s"}])
    assert world.may("get", "secrets", "s")
    world.gone("one")
    assert world.may("get", "secrets", "s")
    world.gone("two")
    assert not world.may("get", "secrets", "s")


def test_pods_of_other_nodes_give_nothing(world: World) -> None:
    world.pod("p", node="n2", imagePullSecrets=[{"name": "s"}])
    assert not world.may("get", "secrets", "s")
    assert not world.may("get", "pods", "p")
    world.pod("q")
    assert world.may("get", "pods", "q")
    assert not world.may("get", "secrets", "s")


def test_a_mirror_pod_gives_nothing() -> None:
    pod = {
        "metadata": {"name": "m", "namespace": "ns", "annotations": {pod_references.MIRROR: "x"}},
        "spec": {"imagePullSecrets": [{"name": "s"}]},
    }
    assert pod_references.of_pod(pod) == frozenset()


def test_an_ephemeral_container_adds_what_it_names(world: World) -> None:
    world.pod("p")
    assert not world.may("get", "configmaps", "m")
    world.pod("p", ephemeralContainers=[{"envFrom": [{"configMapRef": {"name": "m"}}]}])
    assert world.may("get", "configmaps", "m")


def test_claims_lead_to_volumes_and_their_secrets(world: World) -> None:
    world.volume("pv", claimRef={"namespace": "ns", "name": "c"},
                 csi={"nodeStageSecretRef": {"namespace": "vault", "name": "stage"},
                      "controllerPublishSecretRef": {"namespace": "vault", "name": "control"}})  # fmt: skip
    world.pod("p", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}])
    assert world.may("get", "persistentvolumeclaims", "c")
    assert world.may("patch", "persistentvolumeclaims", "c", subresource="status")
    assert world.may("get", "persistentvolumes", "pv", "")
    assert world.may("get", "secrets", "stage", "vault")
    assert not world.may("get", "secrets", "control", "vault")
    world.volume("pv", claimRef={"namespace": "ns", "name": "other"})
    assert not world.may("get", "persistentvolumes", "pv", "")
    assert not world.may("get", "secrets", "stage", "vault")


def test_ephemeral_claims_and_generated_resource_claims(world: World) -> None:
    world.pod("p", volumes=[{"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}],
              resourceClaims=[{"name": "a", "resourceClaimName": "rc"}])  # fmt: skip
    assert world.may("get", "persistentvolumeclaims", "p-v")
    assert world.may("get", "resourceclaims", "rc")


def test_service_accounts_of_its_pods(world: World) -> None:
    world.pod("p", serviceAccountName="robot")
    assert world.may("get", "serviceaccounts", "robot")
    assert world.may("create", "serviceaccounts", "robot", subresource="token")
    assert not world.may("create", "serviceaccounts", "admin", subresource="token")
    assert not world.may("delete", "serviceaccounts", "robot")


def test_pods_are_listed_by_node_only(world: World) -> None:
    assert world.may("watch", "pods", namespace="", fields=(("spec.nodeName", "n1"),))
    assert not world.may("watch", "pods", namespace="", fields=(("spec.nodeName", "n2"),))
    assert not world.may("list", "pods", namespace="")


@pytest.mark.parametrize(
    ("verb", "resource", "name", "namespace", "allowed"),
    [
        ("update", "leases", "n1", "kube-node-lease", True),
        ("update", "leases", "n2", "kube-node-lease", False),
        ("create", "leases", "", "kube-node-lease", True),
        ("get", "leases", "n1", "default", False),
        ("list", "leases", "", "kube-node-lease", False),
        ("get", "csinodes", "n1", "", True),
        ("get", "csinodes", "n2", "", False),
        ("get", "nodes", "n1", "", True),
        ("get", "nodes", "n2", "", False),
        ("delete", "nodes", "n1", "", False),
        ("create", "resourceslices", "", "", True),
        ("get", "resourceslices", "x", "", False),
        ("list", "services", "", "", True),
        ("create", "events", "", "ns", True),
        ("get", "deployments", "d", "ns", False),
        ("create", "pods", "p", "ns", True),
    ],
)
def test_what_is_the_nodes_own(
    world: World, verb: str, resource: str, name: str, namespace: str, allowed: bool
) -> None:
    assert world.may(verb, resource, name, namespace) is allowed


def test_nothing_is_kept_for_nodes_nobody_knows(world: World) -> None:
    world.pod("p", imagePullSecrets=[{"name": "s"}])
    stranger = User(name="system:node:made-up", groups=("system:nodes",))
    asked = Attributes(verb="get", resource="secrets", namespace="ns", name="s")
    for _ in range(2):
        assert not world.authorizer.decide(stranger, asked).allowed
    assert "made-up" not in world.relations._named
