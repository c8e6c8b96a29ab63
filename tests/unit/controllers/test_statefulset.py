"""StatefulSet: order, names, claims, partitions, revisions."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from anynode.api.objects import Object, ObjectKey, get_path, labels_of, meta, name_of
from anynode.controllers import statefulset_plan as plan
from anynode.controllers.pods import PODS
from anynode.controllers.revisions import HASH_LABEL
from anynode.controllers.statefulset import CLAIMS, STATEFUL_SETS, StatefulSetController
from anynode.controllers.statefulset_plan import Revisions

KEY = ObjectKey("default", "db")


def stateful_set(replicas: int = 3, image: str = "v1", **spec: Any) -> Object:
    return {
        "metadata": {"name": "db", "namespace": "default", "generation": 1, "uid": "s"},
        "spec": {
            "replicas": replicas,
            "serviceName": "db",
            "selector": {"matchLabels": {"app": "db"}},
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "revisionHistoryLimit": 10,
            "template": {
                "metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
            **spec,
        },
    }


def revision(name: str) -> Object:
    template = {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": []}, "$patch": "replace"}
    return {"metadata": {"name": name}, "data": {"spec": {"template": template}}, "revision": 1}


def pod(ordinal: int, name_hash: str = "new", *, ready: bool = True, **more: Any) -> Object:
    name = f"db-{ordinal}"
    return {
        "metadata": {"name": name, "uid": name, "labels": {HASH_LABEL: name_hash, plan.POD_NAME_LABEL: name}, **more},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


BOTH = Revisions(current=revision("old"), update=revision("new"))


def step(wish: Object, *pods: Object) -> tuple[list[str], list[str]]:
    found = plan.plan_pods(wish, pods, BOTH, 0.0)
    return [name_of(each) for each in found.create], [name_of(each) for each in found.delete]


def test_one_after_the_other() -> None:
    assert step(stateful_set()) == (["db-0"], [])
    assert step(stateful_set(), pod(0, ready=False)) == ([], [])
    assert step(stateful_set(), pod(0)) == (["db-1"], [])
    assert step(stateful_set(podManagementPolicy="Parallel")) == (["db-0", "db-1", "db-2"], [])
    assert step(stateful_set(1), pod(0), pod(1), pod(2)) == ([], ["db-2"])
    assert step(stateful_set(1), pod(0), pod(1), pod(2, deletionTimestamp="x")) == ([], [])
    assert step(stateful_set(1, podManagementPolicy="Parallel"), pod(0), pod(1), pod(2)) == ([], ["db-2", "db-1"])
    assert step(stateful_set(2, ordinals={"start": 5})) == (["db-5"], [])


def test_updates_from_the_last_down_to_the_partition() -> None:
    pods = [pod(0, "old"), pod(1, "old"), pod(2, "old")]
    assert step(stateful_set(), *pods) == ([], ["db-2"])
    assert step(stateful_set(), *pods[:2], pod(2)) == ([], ["db-1"])
    assert step(stateful_set(), *pods[:2], pod(2, ready=False)) == ([], [])
    partition = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    assert step(stateful_set(updateStrategy=partition), *pods[:2], pod(2)) == ([], [])
    assert step(stateful_set(updateStrategy={"type": "OnDelete"}), *pods) == ([], [])
    made = plan.plan_pods(stateful_set(updateStrategy=partition), [pod(0)], BOTH, 0.0).create[0]
    assert labels_of(made)[HASH_LABEL] == "old"


def test_failed_pods_are_replaced() -> None:
    failed = {**pod(0), "status": {"phase": "Failed"}}
    assert step(stateful_set(), failed, pod(1)) == ([], ["db-0"])


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    parallel=st.booleans(),
    chance=st.randoms(use_true_random=False),
)
def test_any_walk_ends_with_the_wished_pods_in_order(sizes: list[int], parallel: bool, chance: Any) -> None:
    policy = "Parallel" if parallel else "OrderedReady"
    pods: dict[str, Object] = {f"db-{number}": pod(number, "old") for number in range(3)}
    for size in sizes:
        for turn in range(80):
            all_ready = all(each["status"]["conditions"][0]["status"] == "True" for each in pods.values())
            found = plan.plan_pods(stateful_set(size, podManagementPolicy=policy), list(pods.values()), BOTH, 0.0)
            if not parallel:
                assert len(found.create) + len(found.delete) <= 1
            for each in found.delete:
                del pods[name_of(each)]
            for each in found.create:
                assert name_of(each) not in pods
                pods[name_of(each)] = {**pod(int(name_of(each)[3:]), ready=False)}
            for name in list(pods):
                if turn % 2 or chance.random() < 0.5:
                    pods[name] = pod(int(name[3:]), labels_of(pods[name])[HASH_LABEL])
            if all_ready and not found.create and not found.delete:
                break
        assert sorted(pods) == [f"db-{number}" for number in range(size)]
    assert all(labels_of(each)[HASH_LABEL] == "new" for each in pods.values())


async def start(cluster: Any, wish: Object) -> None:
    cluster.start(StatefulSetController(cluster.context).run)
    cluster.api.add(STATEFUL_SETS, wish)
    await cluster.settle()


async def test_starts_in_order_with_claims(cluster: Any) -> None:
    template = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    await start(cluster, stateful_set(2, volumeClaimTemplates=[template]))
    assert [name_of(each) for each in cluster.pods()] == ["db-0"]
    first = cluster.pods()[0]
    assert (first["spec"]["hostname"], first["spec"]["subdomain"]) == ("db-0", "db")
    assert first["spec"]["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}}]
    assert labels_of(first)[plan.INDEX_LABEL] == "0"
    cluster.run_pods()
    await cluster.settle()
    assert [name_of(each) for each in cluster.pods()] == ["db-0", "db-1"]
    cluster.run_pods()
    await cluster.settle()
    assert sorted(name_of(each) for each in cluster.api.objects(CLAIMS)) == ["data-db-0", "data-db-1"]
    status = cluster.get(STATEFUL_SETS, "db")["status"]
    assert (status["replicas"], status["readyReplicas"], status["currentReplicas"]) == (2, 2, 2)
    assert status["currentRevision"] == status["updateRevision"] == labels_of(first)[HASH_LABEL]
    assert "Normal SuccessfulCreate: Create Claim data-db-0 Pod db-0 in StatefulSet db success" in cluster.events.said
    assert "Normal SuccessfulCreate: Create Pod db-1 in StatefulSet db successful" in cluster.events.said
    await cluster.client.patch(STATEFUL_SETS, KEY, {"spec": {"replicas": 1}})
    await cluster.settle()
    cluster.run_pods()
    await cluster.settle()
    assert [name_of(each) for each in cluster.pods()] == ["db-0"]
    assert len(cluster.api.objects(CLAIMS)) == 2


async def test_updates_and_finishes_the_revision(cluster: Any) -> None:
    await start(cluster, stateful_set(2, podManagementPolicy="Parallel"))
    cluster.run_pods()
    await cluster.settle()
    before = cluster.get(STATEFUL_SETS, "db")["status"]["currentRevision"]
    container = [{"name": "main", "image": "v2"}]
    await cluster.client.patch(STATEFUL_SETS, KEY, {"spec": {"template": {"spec": {"containers": container}}}})
    await cluster.settle()
    status = cluster.get(STATEFUL_SETS, "db")["status"]
    assert status["currentRevision"] == before != status["updateRevision"]
    for _ in range(6):
        cluster.run_pods()
        await cluster.settle()
    assert {get_path(each, "spec", "containers")[0]["image"] for each in cluster.pods()} == {"v2"}
    status = cluster.get(STATEFUL_SETS, "db")["status"]
    assert status["currentRevision"] == status["updateRevision"] != before
    assert status["updatedReplicas"] == 2


async def test_claims_go_with_the_set_if_so_wished(cluster: Any) -> None:
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    template = {"metadata": {"name": "data"}, "spec": {}}
    wish = stateful_set(1, volumeClaimTemplates=[template], persistentVolumeClaimRetentionPolicy=policy)
    await start(cluster, wish)
    cluster.run_pods()
    await cluster.settle()
    owners = meta(cluster.get(CLAIMS, "data-db-0"))["ownerReferences"]
    assert [each["kind"] for each in owners] == ["StatefulSet"]
    await cluster.client.patch(STATEFUL_SETS, KEY, {"spec": {"replicas": 0}})
    await cluster.settle()
    owners = meta(cluster.get(CLAIMS, "data-db-0"))["ownerReferences"]
    assert [each["kind"] for each in owners] == ["Pod"]
    assert cluster.get(PODS, "db-0")
