"""Rows and columns as a real kube-apiserver answered, and rows no recording has."""

from __future__ import annotations

import datetime
import json
import pathlib
import re
from typing import Any

import pytest

from anynode.api import resources
from anynode.api.objects import Object, with_path
from anynode.api.patches import merge_patch
from anynode.api.resources import Resource
from anynode.apiserver import printers
from anynode.schema.kinds.catalogue import rules_of

RECORDED = pathlib.Path(__file__).resolve().parents[4] / "shared" / "data" / "golden"
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CREATED = "2026-01-01T00:00:00Z"
PATH = re.compile(r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v[^/]+)(?:/namespaces/[^/]+)?/(?P<plural>[a-z]+)")


def resource_of(path: str) -> Resource | None:
    found = PATH.match(path.partition("?")[0])
    return found and resources.builtin().at(found["group"] or "", found["version"], found["plural"])


def tables() -> list[tuple[str, Object, Object]]:
    """(name, step, table) of every recorded Table."""
    found = []
    for file in ("objects-tables", "objects-pods", "objects-workloads"):
        path = RECORDED / f"{file}.json"
        for case in json.loads(path.read_text()) if path.exists() else ():
            obj: Object = {}
            answers = iter(case["answers"])
            for step in case["steps"]:
                if "SLEEP" in step:
                    continue
                if "PATCH" in step and isinstance(step.get("body"), dict):
                    obj = merge_patch(obj, step["body"])
                    step = {**step, "body": obj}
                elif "POST" in step and isinstance(step.get("body"), dict):
                    obj = step["body"]
                answer = {} if step.get("ignore") else next(answers)
                body = answer.get("body")
                if isinstance(body, dict) and body.get("kind") == "Table":
                    found.append((f"{case['name']}: {answer['step']}", step, body))
    return found


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded answers are not beside the checkout")
@pytest.mark.parametrize(("step", "table"), [pytest.param(*rest, id=name) for name, *rest in tables()])
def test_tables_are_as_recorded(step: Object, table: Object) -> None:
    method, path = next((method, path) for method, path in step.items() if method in ("GET", "POST", "PATCH", "PUT"))
    resource = resource_of(path)
    if resource is None:
        pytest.skip("a custom kind")
    if table.get("columnDefinitions"):
        assert printers.columns(resource) == table["columnDefinitions"]
    for row in table.get("rows") or () if method != "GET" else ():
        obj = recorded_object(resource, step["body"])
        printed = printers.cells(resource, obj, NOW)
        assert [_steady(cell) for cell in printed] == [_steady(cell) for cell in row["cells"]]
        assert printers.conditions(resource, obj) == row.get("conditions")


def _steady(cell: Any) -> Any:
    """Ages and times are not the same in two runs."""
    return "0s" if isinstance(cell, str) and re.fullmatch(r"\d+s", cell) else "<time>" if cell == CREATED else cell


def recorded_object(resource: Resource, body: Object) -> Object:
    """What the server had stored when it printed the row: defaulted, and completed by its other parts."""
    obj = json.loads(json.dumps(body).replace("${ns}", "<ns>"))
    obj = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
    obj["metadata"] = {**obj["metadata"], "creationTimestamp": CREATED}
    obj = rules_of(resource.group, resource.kind).default(obj)
    if resource.plural in ("pods", "persistentvolumeclaims", "persistentvolumes"):
        obj = with_path(obj, ("status",), {"phase": "Pending", **obj.get("status", {})})
    if resource.plural == "services" and obj["spec"].get("clusterIP"):
        obj = with_path(obj, ("spec", "clusterIPs"), [obj["spec"]["clusterIP"]])
    if resource.plural == "persistentvolumes":
        obj["spec"] = {"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem", **obj["spec"]}
    if resource.plural == "csidrivers":
        obj["spec"].setdefault("volumeLifecycleModes", ["Persistent"])
    if resource.plural == "certificatesigningrequests":
        obj = with_path(obj, ("spec", "username"), "golden")
    return obj


def pod(status: Object, **spec: Any) -> Object:
    metadata = {"name": "p", "creationTimestamp": "2025-12-31T23:00:00Z"}
    return {"metadata": metadata, "spec": {"containers": [{"name": "c"}], **spec}, "status": status}


PODS = resources.known("pods")


def row(obj: Object) -> tuple[str, str, str]:
    """Ready, status, restarts."""
    cells = printers.cells(PODS, obj, NOW)
    return cells[1], cells[2], cells[3]


def container(name: str = "c", *, ready: bool = False, restarts: int = 0, last: str = "", **state: Object) -> Object:
    status: Object = {"name": name, "ready": ready, "restartCount": restarts, "state": state}
    return status | ({"lastState": {"terminated": {"finishedAt": last}}} if last else {})


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"phase": "Pending"}, ("0/1", "Pending", "0")),
        ({"phase": "Running", "containerStatuses": [container(ready=True, running={})]}, ("1/1", "Running", "0")),
        (
            {
                "containerStatuses": [
                    container(restarts=3, last="2025-12-31T23:55:00Z", waiting={"reason": "CrashLoopBackOff"})
                ]
            },
            ("0/1", "CrashLoopBackOff", "3 (5m ago)"),
        ),
        ({"containerStatuses": [container(terminated={"exitCode": 137, "signal": 9})]}, ("0/1", "Signal:9", "0")),
        ({"containerStatuses": [container(terminated={"exitCode": 2})]}, ("0/1", "ExitCode:2", "0")),
        ({"phase": "Failed", "reason": "Evicted"}, ("0/1", "Evicted", "0")),
        (
            {"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]},
            ("0/1", "SchedulingGated", "0"),
        ),
        (
            {
                "containerStatuses": [
                    container("a", terminated={"reason": "Completed", "exitCode": 0}),
                    container("b", ready=True, running={}),
                ]
            },
            ("1/1", "NotReady", "0"),
        ),
        (
            {
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [
                    container("a", terminated={"reason": "Completed", "exitCode": 0}),
                    container("b", ready=True, running={}),
                ],
            },
            ("1/1", "Running", "0"),
        ),
        (
            {
                "containerStatuses": [
                    container("a", terminated={"reason": "Completed", "exitCode": 0}),
                    container("b", terminated={"reason": "Error", "exitCode": 1}),
                ]
            },
            ("0/1", "Error", "0"),
        ),
    ],
)
def test_a_pods_state_in_one_word(status: Object, expected: tuple[str, str, str]) -> None:
    assert row(pod(status)) == expected


def test_init_containers_and_sidecars() -> None:
    init = [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}, {"name": "j"}]
    done = container("i", terminated={"exitCode": 0})
    sidecar = container("s", ready=True, restarts=2, running={}) | {"started": True}
    waiting = container("j", waiting={"reason": "PodInitializing"}, restarts=1)

    def with_init(*statuses: Object, **more: Any) -> Object:
        return pod({"phase": "Pending", "initContainerStatuses": list(statuses), **more}, initContainers=init)

    assert row(with_init(waiting)) == ("0/2", "Init:0/3", "1")
    assert row(with_init(done, sidecar, waiting)) == ("1/2", "Init:2/3", "3")
    assert row(with_init(container("i", waiting={"reason": "ErrImagePull"})))[1] == "Init:ErrImagePull"
    assert row(with_init(container("i", terminated={"exitCode": 3})))[1] == "Init:ExitCode:3"
    running = [container(ready=True, running={})]
    finished = container("j", terminated={"exitCode": 0}, restarts=7)
    assert row(with_init(done, sidecar, finished, containerStatuses=running)) == ("2/2", "Pending", "2")


def test_deletion_shows_unless_the_pod_is_over() -> None:
    deleted = pod({"phase": "Running"})
    deleted["metadata"]["deletionTimestamp"] = CREATED
    assert row(deleted)[1] == "Terminating"
    assert row({**deleted, "status": {"phase": "Running", "reason": "NodeLost"}})[1] == "Unknown"
    assert row({**deleted, "status": {"phase": "Succeeded"}})[1] == "Succeeded"


def test_pods_that_are_over_say_so_beside_their_cells() -> None:
    over = printers.conditions(PODS, pod({"phase": "Succeeded"}))
    assert over is not None
    assert over[0]["message"] == "The pod has completed successfully."
    assert printers.conditions(PODS, pod({"phase": "Running"})) is None
    assert printers.conditions(resources.known("configmaps"), {"metadata": {}}) is None


@pytest.mark.parametrize(
    ("plural", "group", "obj", "expected"),
    [
        (
            "jobs", "batch",
            {"spec": {"completions": 3}, "status": {"succeeded": 1, "startTime": "2025-12-31T23:59:30Z"}},
            ["x", "Running", "1/3", "30s", "0s", "", "", "<none>"],
        ),
        (
            "jobs", "batch",
            {
                "spec": {"parallelism": 2, "selector": {"matchLabels": {"a": "b"}}},
                "status": {
                    "succeeded": 2, "startTime": "2025-12-31T23:00:00Z", "completionTime": "2025-12-31T23:00:09Z",
                    "conditions": [{"type": "Complete", "status": "True"}],
                },
            },
            ["x", "Complete", "2/1 of 2", "9s", "0s", "", "", "a=b"],
        ),
        (
            "services", "",
            {
                "spec": {
                    "type": "LoadBalancer", "clusterIPs": ["10.0.0.1"],
                    "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
                },
                "status": {"loadBalancer": {"ingress": [{"hostname": "b"}, {"ip": "a"}]}},
            },
            ["x", "LoadBalancer", "10.0.0.1", "a,b", "80:30080/TCP,53/UDP", "0s", "<none>"],
        ),
        (
            "events", "",
            {
                "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.x"}, "type": "Normal", "reason": "R",
                "message": " m\n", "source": {"component": "c", "host": "h"}, "count": 4,
                "firstTimestamp": "2025-12-31T23:00:00Z", "lastTimestamp": "2025-12-31T23:59:00Z",
            },
            ["60s", "Normal", "R", "pod/p", "spec.x", "c, h", "m", "60m", 4, "x"],
        ),
        (
            "events", "events.k8s.io",
            {
                "regarding": {"kind": "Node"}, "type": "Warning", "reason": "R", "note": "n",
                "reportingController": "c", "eventTime": "2025-12-31T23:58:20.000000Z",
            },
            ["100s", "Warning", "R", "node", "", "c", "n", "100s", 1, "x"],
        ),
        (
            "horizontalpodautoscalers", "autoscaling",
            {
                "apiVersion": "autoscaling/v1",
                "spec": {
                    "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 5,
                    "targetCPUUtilizationPercentage": 50,
                },
                "status": {"currentCPUUtilizationPercentage": 10, "currentReplicas": 2},
            },
            ["x", "Deployment/d", "cpu: 10%/50%", "<unset>", 5, 2, "0s"],
        ),
        (
            "persistentvolumeclaims", "",
            {
                "spec": {"volumeName": "v", "storageClassName": "s", "volumeMode": "Filesystem"},
                "status": {
                    "phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                },
            },
            ["x", "Bound", "v", "1Gi", "RWO,RWX", "s", "<unset>", "0s", "Filesystem"],
        ),
        (
            "resourcequotas", "",
            {"status": {"hard": {"pods": "4", "limits.cpu": "2", "cpu": "1"}, "used": {"pods": "1"}}},
            ["x", "cpu: 0/1, pods: 1/4", "limits.cpu: 0/2", "0s"],
        ),
        (
            "prioritylevelconfigurations", "flowcontrol.apiserver.k8s.io",
            {
                "spec": {
                    "type": "Limited",
                    "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}},
                }
            },
            ["x", "Limited", 5, "<none>", "<none>", "<none>", "0s"],
        ),
        (
            "controllerrevisions", "apps", {"revision": 2}, ["x", "<none>", 2, "0s"],
        ),
        ("apiservices", "apiregistration.k8s.io", {"spec": {}}, ["x", "Local", "Unknown", "0s"]),
        ("customresourcedefinitions", "apiextensions.k8s.io", {}, ["x", CREATED]),
    ],
)  # fmt: skip
def test_rows_of_other_kinds(plural: str, group: str, obj: Object, expected: list[Any]) -> None:
    given = {**obj, "metadata": {"name": "x", "creationTimestamp": CREATED}}
    assert printers.cells(resources.known(plural, group), given, NOW) == expected


def test_every_builtin_kind_prints_an_empty_object_as_wide_as_its_columns() -> None:
    for resource in resources.builtin():
        if "list" not in resource.verbs:
            continue
        cells = printers.cells(resource, {"metadata": {"name": "x"}}, NOW)
        extra = resource.plural == "ipaddresses"  # upstream prints an age there that has no column
        assert len(cells) == len(printers.columns(resource)) + extra, resource.qualified
        json.dumps(cells)
