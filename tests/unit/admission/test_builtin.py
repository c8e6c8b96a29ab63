"""Admission: what is added to objects and what is refused, also as a real kube-apiserver answered."""

from __future__ import annotations

import asyncio
import json
import pathlib
import random
from typing import Any

import pytest

from anynode.admission.builtin import merged_tolerations, plugins
from anynode.admission.chain import Attributes, Chain, Operation
from anynode.api import resources
from anynode.api.errors import Forbidden, NotFound
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import Resource
from anynode.api.wire import User
from anynode.testing.clock import FakeClock

RECORDED = pathlib.Path(__file__).resolve().parents[4] / "shared" / "data" / "golden"
USER = User(name="golden")
PODS = resources.known("pods")
NODES = resources.known("nodes")
CLASSES = resources.known("priorityclasses", "scheduling.k8s.io")
ACCOUNTS = resources.known("serviceaccounts")
RUNTIMES = resources.known("runtimeclasses", "node.k8s.io")
DEFAULTS = [
    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
]


class Stored:
    """What is in the cluster."""

    def __init__(self) -> None:
        self.objects: dict[tuple[Resource, ObjectKey], Object] = {}
        self.clock = FakeClock()
        self.put(resources.known("namespaces"), {"metadata": {"name": "ns"}, "status": {"phase": "Active"}})
        self.put(ACCOUNTS, {"metadata": {"name": "default", "namespace": "ns"}})
        self.put(CLASSES, {"metadata": {"name": "system-node-critical"}, "value": 2000001000,
                           "preemptionPolicy": "PreemptLowerPriority"})  # fmt: skip

    def put(self, resource: Resource, obj: Object) -> None:
        metadata = obj["metadata"]
        self.objects[resource, ObjectKey(metadata.get("namespace", ""), metadata["name"])] = obj

    @property
    def chain(self) -> Chain:
        return Chain(
            plugins(
                lambda resource, key: self.objects.get((resource, key)),
                lambda wanted: [obj for (resource, _), obj in self.objects.items() if resource == wanted],
                clock=self.clock,
                chance=random.Random(1),
            )
        )

    async def create(self, resource: Resource, obj: Object, **more: Any) -> Any:
        namespace = "ns" if resource.namespaced else ""
        return await self.chain.admit(
            Attributes(operation="CREATE", resource=resource, obj=obj, user=USER, **{"namespace": namespace} | more)
        )


@pytest.fixture
def stored() -> Stored:
    return Stored()


def pod(**spec: Any) -> Object:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


async def test_a_plain_pod_gets_account_token_priority_and_tolerations(stored: Stored) -> None:
    given = pod()
    before = json.dumps(given)
    admitted = await stored.create(PODS, given)
    assert json.dumps(given) == before, "what came in is shared and stays as it is"
    spec = admitted["spec"]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    assert spec["tolerations"] == DEFAULTS
    (volume,) = spec["volumes"]
    (mount,) = spec["containers"][0]["volumeMounts"]
    assert mount == {
        "name": volume["name"],
        "readOnly": True,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
    }
    assert len(volume["name"].removeprefix("kube-api-access-")) == 5
    kinds = [next(iter(source)) for source in volume["projected"]["sources"]]
    assert kinds == ["serviceAccountToken", "configMap", "downwardAPI"]
    assert volume["projected"]["sources"][0] == {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}


@pytest.mark.parametrize(
    ("of_pod", "of_account", "mounted"),
    [(None, None, True), (None, False, False), (True, False, True), (False, True, False), (False, None, False)],
)
async def test_automount_is_the_pods_word_then_the_accounts(
    stored: Stored, of_pod: bool | None, of_account: bool | None, mounted: bool
) -> None:
    account: Object = {"metadata": {"name": "default", "namespace": "ns"}}
    stored.put(ACCOUNTS, account if of_account is None else account | {"automountServiceAccountToken": of_account})
    given = pod() if of_pod is None else pod(automountServiceAccountToken=of_pod)
    admitted = await stored.create(PODS, given)
    assert ("volumes" in admitted["spec"]) is mounted


async def test_a_mount_at_the_token_path_is_kept_and_init_containers_count(stored: Stored) -> None:
    own = {"name": "mine", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    given = pod(
        initContainers=[{"name": "i"}], containers=[{"name": "c", "volumeMounts": [own]}], volumes=[{"name": "mine"}]
    )
    spec = (await stored.create(PODS, given))["spec"]
    assert spec["containers"][0]["volumeMounts"] == [own]
    assert spec["initContainers"][0]["volumeMounts"][0]["name"] == spec["volumes"][1]["name"]
    given = pod(containers=[{"name": "c", "volumeMounts": [own]}], volumes=[{"name": "mine"}])
    assert (await stored.create(PODS, given))["spec"]["volumes"] == [{"name": "mine"}]
    given = pod(volumes=[{"name": "kube-api-access-mine0"}])
    spec = (await stored.create(PODS, given))["spec"]
    assert spec["volumes"] == [{"name": "kube-api-access-mine0"}]
    assert spec["containers"][0]["volumeMounts"][0]["name"] == "kube-api-access-mine0"


async def test_the_default_account_is_waited_for(stored: Stored) -> None:
    account = stored.objects.pop((ACCOUNTS, ObjectKey("ns", "default")))
    async with asyncio.TaskGroup() as tasks:
        creating = tasks.create_task(stored.create(PODS, pod()))
        await stored.clock.advance(0.15)
        assert not creating.done()
        stored.put(ACCOUNTS, account)
        await stored.clock.advance(0.5)
        assert creating.done()
    del stored.objects[ACCOUNTS, ObjectKey("ns", "default")]
    async with asyncio.TaskGroup() as tasks:
        creating = tasks.create_task(_refused(stored, pod()))
        await stored.clock.advance(3)
    refusal = creating.result()
    assert refusal.message == (
        'pods "p" is forbidden: error looking up service account ns/default: serviceaccount "default" not found'
    )


async def _refused(stored: Stored, given: Object) -> Forbidden:
    with pytest.raises(Forbidden) as refusal:
        await stored.create(PODS, given)
    return refusal.value


async def test_enforced_secret_lists(stored: Stored) -> None:
    metadata = {"name": "strict", "namespace": "ns", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}
    stored.put(ACCOUNTS, {"metadata": metadata, "secrets": [{"name": "ok"}]})
    env = {"name": "E", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}
    refusal = await _refused(stored, pod(serviceAccountName="strict", containers=[{"name": "c", "env": [env]}]))
    assert refusal.message.endswith(
        'container c with envVar E referencing secret.secretName="no" is not allowed because '
        "service account strict does not reference that secret"
    )
    volume = {"name": "v", "secret": {"secretName": "no"}}
    refusal = await _refused(stored, pod(serviceAccountName="strict", volumes=[volume]))
    assert 'volume with secret.secretName="no" is not allowed' in refusal.message
    await stored.create(PODS, pod(serviceAccountName="strict", volumes=[{"name": "v", "secret": {"secretName": "ok"}}]))


async def test_mirror_pods_are_left_alone_and_may_not_use_secrets(stored: Stored) -> None:
    mirror = pod() | {"metadata": {"name": "p", "annotations": {"kubernetes.io/config.mirror": "x"}}}
    assert "volumes" not in (await stored.create(PODS, mirror))["spec"]
    mirror["spec"]["volumes"] = [{"name": "v", "secret": {"secretName": "s"}}]
    assert (await _refused(stored, mirror)).message.endswith("a mirror pod may not reference secrets")


async def test_namespaces_that_are_not_or_no_longer(stored: Stored) -> None:
    maps = resources.known("configmaps")
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        await stored.create(maps, {"metadata": {"name": "a"}}, namespace="nowhere")
    stored.put(resources.known("namespaces"), {"metadata": {"name": "ns"}, "status": {"phase": "Terminating"}})
    with pytest.raises(Forbidden) as refusal:
        await stored.create(maps, {"metadata": {"generateName": "a-"}})
    status = refusal.value.status()
    assert status["message"] == (
        'configmaps "a-" is forbidden: unable to create new content in namespace ns because it is being terminated'
    )
    assert status["details"]["causes"] == [
        {"reason": "NamespaceTerminating", "message": "namespace ns is being terminated", "field": "metadata.namespace"}
    ]
    operations: list[Operation] = ["UPDATE", "DELETE"]
    for operation in operations:
        await stored.chain.admit(
            Attributes(operation=operation, resource=maps, namespace="ns", name="a", obj={}, old={}, user=USER)
        )
    spaces = resources.known("namespaces")
    with pytest.raises(Forbidden, match='namespaces "kube-system" is forbidden: this namespace may not be deleted'):
        await stored.chain.admit(Attributes(operation="DELETE", resource=spaces, name="kube-system", user=USER))
    assert await stored.chain.admit(Attributes(operation="DELETE", resource=spaces, name="ns", user=USER)) is None


async def test_new_nodes_are_tainted_once(stored: Stored) -> None:
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    node = await stored.create(NODES, {"metadata": {"name": "n"}})
    assert node["spec"]["taints"] == [taint]
    assert await stored.create(NODES, node) is node


async def test_the_default_priority_class(stored: Stored) -> None:
    stored.put(CLASSES, {"metadata": {"name": "high"}, "value": 9, "globalDefault": True, "preemptionPolicy": "Never"})
    stored.put(CLASSES, {"metadata": {"name": "low"}, "value": 5, "globalDefault": True, "preemptionPolicy": "Never"})
    spec = (await stored.create(PODS, pod()))["spec"]
    assert (spec["priorityClassName"], spec["priority"], spec["preemptionPolicy"]) == ("low", 5, "Never")
    with pytest.raises(Forbidden, match="PriorityClass low is already marked as default"):
        await stored.create(CLASSES, {"metadata": {"name": "third"}, "value": 1, "globalDefault": True})


async def test_an_update_keeps_priority_and_tolerations(stored: Stored) -> None:
    old = await stored.create(PODS, pod())
    spec = {key: value for key, value in old["spec"].items() if key not in ("priority", "tolerations")}
    admitted = await stored.chain.admit(
        Attributes(
            operation="UPDATE", resource=PODS, namespace="ns", name="p", obj={**old, "spec": spec}, old=old, user=USER
        )
    )
    assert admitted is not None
    assert admitted["spec"] == old["spec"]
    status = Attributes(
        operation="UPDATE", resource=PODS, subresource="status", namespace="ns", name="p", obj=old, old=old, user=USER
    )
    assert await stored.chain.admit(status) is old


async def test_runtime_classes(stored: Stored) -> None:
    tolerations = [{"key": "vm", "operator": "Exists"}]
    stored.put(RUNTIMES, {"metadata": {"name": "vm"}, "overhead": {"podFixed": {"cpu": "250m"}},
                          "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": tolerations}})  # fmt: skip
    spec = (await stored.create(PODS, pod(runtimeClassName="vm")))["spec"]
    assert (spec["overhead"], spec["nodeSelector"]) == ({"cpu": "250m"}, {"vm": "yes"})
    assert spec["tolerations"] == [*DEFAULTS, *tolerations]
    await stored.create(PODS, pod(runtimeClassName="vm", overhead={"cpu": "0.25"}))
    refusal = await _refused(stored, pod(runtimeClassName="vm", nodeSelector={"vm": "no"}))
    assert refusal.message.endswith(
        "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"
    )
    refusal = await _refused(stored, pod(overhead={"cpu": "1"}))
    assert refusal.message.endswith("Pod Overhead set without corresponding RuntimeClass defined Overhead")


async def test_an_overhead_of_its_own_is_refused_only_after_all_others_had_their_say(stored: Stored) -> None:
    attributes = Attributes(
        operation="CREATE", resource=PODS, namespace="ns", name="p", obj=pod(overhead={"cpu": "1"}), user=USER
    )
    runtime_class = next(each for each in stored.chain.plugins if each.name == "RuntimeClass")
    assert await runtime_class.admit(attributes) is attributes.obj
    with pytest.raises(Forbidden, match="Pod Overhead set without corresponding RuntimeClass"):
        await runtime_class.validate(attributes)


def test_tolerations_that_others_cover_go() -> None:
    everything: Object = {"operator": "Exists"}
    one = {"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}
    assert merged_tolerations([one, everything]) == [everything]
    assert merged_tolerations([one, one]) == [one]
    short = {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
    long = short | {"tolerationSeconds": 9}
    assert merged_tolerations([short, long]) == [long]


async def test_bindings_carry_the_nodes_topology(stored: Stored) -> None:
    labels = {"topology.kubernetes.io/zone": "z", "kubernetes.io/hostname": "n"}
    stored.put(NODES, {"metadata": {"name": "n", "labels": labels}})
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    bound = await stored.create(PODS, binding, subresource="binding")
    assert bound["metadata"]["labels"] == {"topology.kubernetes.io/zone": "z"}


def recorded_pods() -> list[Any]:
    """(name, body, answer) of recorded creations of pods that need nothing else first."""
    found = []
    for file in ("objects-pods", "semantics-pods"):
        path = RECORDED / f"{file}.json"
        for case in json.loads(path.read_text()) if path.exists() else ():
            step, answer = case["steps"][0], case["answers"][0] if case["answers"] else {}
            created = answer.get("code") == 201 and answer["body"]["kind"] == "Pod"
            plain = step.get("POST", "").startswith("/api/v1/namespaces/${ns}/pods") and not step.get("ignore")
            if plain and isinstance(step.get("body"), dict) and (created or answer.get("code") == 403):
                found.append(pytest.param(step["body"], answer, id=f"{file}: {case['name']}"))
    return found


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded answers are not beside the checkout")
@pytest.mark.parametrize(("body", "answer"), recorded_pods())
async def test_pods_are_admitted_as_recorded(stored: Stored, body: Object, answer: Object) -> None:
    """What admission fills in, and its refusals. The recording server also projects a vendor's own certificates."""
    stored.put(resources.known("namespaces"), {"metadata": {"name": "<ns>"}})
    stored.put(ACCOUNTS, {"metadata": {"name": "default", "namespace": "<ns>"}})
    body = json.loads(json.dumps(body).replace("${ns}", "<ns>"))
    if "serviceAccount" in body["spec"]:
        body["spec"].setdefault("serviceAccountName", body["spec"]["serviceAccount"])
    if answer["code"] == 403:
        with pytest.raises(Forbidden) as refusal:
            await stored.create(PODS, body, namespace="<ns>")
        assert refusal.value.status() == answer["body"]
        return
    spec = (await stored.create(PODS, body, namespace="<ns>"))["spec"]
    wanted = answer["body"]["spec"]
    for field in ("serviceAccountName", "serviceAccount", "priority", "preemptionPolicy", "priorityClassName",
                  "tolerations", "imagePullSecrets", "nodeSelector", "overhead"):  # fmt: skip
        assert spec.get(field) == wanted.get(field), field
    assert [_volume(each) for each in spec.get("volumes", ())] == [_volume(each) for each in wanted.get("volumes", ())]
    for kind in ("containers", "initContainers"):
        counts = [len(each.get("volumeMounts", ())) for each in spec.get(kind, ())]
        assert counts == [len(each.get("volumeMounts", ())) for each in wanted.get(kind, ())]


def _volume(volume: Object) -> Any:
    if not volume["name"].startswith("kube-api-access-"):
        return volume["name"]
    projected = volume["projected"]
    sources = [each for each in projected["sources"] if each.get("configMap", {}).get("name", "")[:9] != "openshift"]
    return sources, projected["defaultMode"]
