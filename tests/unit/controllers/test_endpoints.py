"""EndpointSlices and Endpoints: what the pods of a Service become."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from anynode.api.objects import Object, ObjectKey, labels_of, meta, with_meta
from anynode.controllers.endpoints import ENDPOINTS, EndpointsController, plan_endpoints, truncated
from anynode.controllers.endpointslice import ENDPOINT_SLICES, NODES, EndpointSliceController, plan_slices
from anynode.controllers.pods import PODS
from anynode.controllers.service_pods import SERVICES

NODE = {"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z1"}}}


def service(*ports: Object, **spec: Any) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "s", "labels": {"team": "a"}},
        "spec": {
            "selector": {"app": "web"},
            "clusterIP": "10.0.0.1",
            "ipFamilies": ["IPv4"],
            "ports": list(ports) or [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
            **spec,
        },
    }


def pod(number: int, *, ready: bool = True, named_port: int = 0, **more: Any) -> Object:
    ports = [{"name": "web", "containerPort": named_port, "protocol": "TCP"}] if named_port else []
    return {
        "metadata": {
            "name": f"p{number}",
            "namespace": "default",
            "uid": f"p{number}",
            "labels": {"app": "web"},
            **more,
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "main", "ports": ports}]},
        "status": {
            "phase": "Running",
            "podIP": f"10.1.{number // 250}.{number % 250}",
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }


def test_one_slice_says_it_all() -> None:
    plan = plan_slices(service(), [pod(1), pod(2, ready=False)], {"n1": NODE}, [], "IPv4")
    (made,) = plan.create
    assert labels_of(made) == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert made["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    first, second = made["endpoints"]
    assert first["addresses"] == ["10.1.0.1"]
    assert (first["nodeName"], first["zone"], first["targetRef"]["name"]) == ("n1", "z1", "p1")
    assert first["conditions"] == {"ready": True, "serving": True, "terminating": False}
    assert second["conditions"]["ready"] is False


def test_a_terminating_pod_serves_but_is_not_ready() -> None:
    dying = pod(1, deletionTimestamp="2026-01-01T00:00:00Z")
    (made,) = plan_slices(service(), [dying], {"n1": NODE}, [], "IPv4").create
    assert made["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}


def test_no_pods_leave_one_empty_slice() -> None:
    (made,) = plan_slices(service(), [], {}, [], "IPv4").create
    assert (made["endpoints"], made["ports"]) == ([], [])
    stored = with_meta(made, name="web-1", uid="u")
    assert plan_slices(service(), [], {}, [stored], "IPv4").create == []
    assert plan_slices(service(), [], {}, [stored], "IPv4").delete == []
    step = plan_slices(service(), [pod(1)], {"n1": NODE}, [stored], "IPv4")
    assert [meta(each)["name"] for each in step.update] == ["web-1"]
    assert not step.create
    assert not step.delete


def test_named_ports_split_slices() -> None:
    named = service({"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"})
    plan = plan_slices(named, [pod(1, named_port=1), pod(2, named_port=2), pod(3)], {"n1": NODE}, [], "IPv4")
    assert sorted([port["port"] for port in each["ports"]] for each in plan.create) == [[], [1], [2]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.integers(0, 320), max_size=260), min_size=1, max_size=5))
def test_any_walk_ends_with_exactly_the_pods(walk: list[set[int]]) -> None:
    slices: list[Object] = []
    for turn, numbers in enumerate(walk):
        pods = [pod(each) for each in numbers]
        step = plan_slices(service(), pods, {"n1": NODE}, slices, "IPv4")
        doomed = {meta(each)["name"] for each in step.delete}
        updated = {meta(each)["name"]: each for each in step.update}
        assert not doomed & set(updated)
        kept = [updated.get(meta(each)["name"], each) for each in slices if meta(each)["name"] not in doomed]
        made = [with_meta(each, name=f"s{turn}-{number}") for number, each in enumerate(step.create)]
        slices = [*kept, *made]
        found = [each["targetRef"]["uid"] for part in slices for each in part["endpoints"]]
        assert sorted(found) == sorted(f"p{each}" for each in numbers)
        assert all(len(each["endpoints"]) <= 100 for each in slices)
        again = plan_slices(service(), pods, {"n1": NODE}, slices, "IPv4")
        assert [*again.create, *again.update, *again.delete] == []


def test_endpoints_group_by_ports_and_readiness() -> None:
    ports = ({"name": "a", "port": 1, "protocol": "TCP"}, {"name": "b", "port": 2, "protocol": "TCP"})
    made = plan_endpoints(service(*ports), [pod(1), pod(2, ready=False)], None)
    assert made is not None
    (subset,) = made["subsets"]
    assert [each["ip"] for each in subset["addresses"]] == ["10.1.0.1"]
    assert [each["ip"] for each in subset["notReadyAddresses"]] == ["10.1.0.2"]
    assert [each["port"] for each in subset["ports"]] == [1, 2]
    assert labels_of(made) == {"team": "a", "endpoints.kubernetes.io/managed-by": "endpoint-controller"}
    assert plan_endpoints(service(*ports), [pod(1), pod(2, ready=False)], made) is None


def test_endpoints_are_cut_at_a_thousand() -> None:
    subsets = [{"addresses": [{"ip": str(n)} for n in range(900)], "notReadyAddresses": [{"ip": "x"}] * 300}]
    cut, was_cut = truncated(subsets)
    assert was_cut
    assert (len(cut[0]["addresses"]), len(cut[0]["notReadyAddresses"])) == (900, 100)
    cut, _ = truncated([{"addresses": [{"ip": str(n)} for n in range(1500)], "notReadyAddresses": [{"ip": "x"}]}])
    assert len(cut[0]["addresses"]) == 1000
    assert "notReadyAddresses" not in cut[0]


async def test_follows_pods_and_services(cluster: Any) -> None:
    cluster.start(EndpointSliceController(cluster.context).run, EndpointsController(cluster.context).run)
    cluster.api.add(NODES, NODE)
    cluster.api.add(SERVICES, service())
    await cluster.settle()
    assert [each["endpoints"] for each in cluster.api.objects(ENDPOINT_SLICES)] == [[]]
    assert "subsets" not in cluster.get(ENDPOINTS, "web")
    cluster.api.add(PODS, pod(1), pod(2))
    cluster.api.add(PODS, {**pod(3), "metadata": {**pod(3)["metadata"], "labels": {"app": "other"}}})
    await cluster.settle()
    (found,) = cluster.api.objects(ENDPOINT_SLICES)
    assert sorted(each["addresses"][0] for each in found["endpoints"]) == ["10.1.0.1", "10.1.0.2"]
    assert len(cluster.get(ENDPOINTS, "web")["subsets"][0]["addresses"]) == 2
    cluster.api.put(PODS, pod(1, ready=False))
    cluster.api.remove(PODS, ObjectKey("default", "p2"))
    await cluster.settle()
    (found,) = cluster.api.objects(ENDPOINT_SLICES)
    assert [each["conditions"]["ready"] for each in found["endpoints"]] == [False]
    assert list(cluster.get(ENDPOINTS, "web")["subsets"][0]) == ["notReadyAddresses", "ports"]
    cluster.api.remove(ENDPOINT_SLICES, ObjectKey("default", meta(found)["name"]))
    await cluster.settle()
    assert len(cluster.api.objects(ENDPOINT_SLICES)) == 1
    before = len(cluster.api.requests)
    await cluster.settle(30)
    assert all(each.method == "GET" for each in cluster.api.requests[before:])
    cluster.api.remove(SERVICES, ObjectKey("default", "web"))
    await cluster.settle()
    assert cluster.api.objects(ENDPOINTS) == []
