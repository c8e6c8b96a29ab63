"""Priority, runtime and storage classes, disruption budgets, storage drivers."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.kinds.catalogue import rules_of


def told(group: str, kind: str, name: str = "x", **body: Any) -> list[str]:
    rules = rules_of(group, kind)
    made = rules.prepare_create(rules.default({"metadata": {"name": name}, **body}))
    return [f"{each.field}: {each.message}" for each in rules.validate(made)]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("mine", 10**9, []),
        ("mine", 10**9 + 1,
            ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]),
        ("system-node-critical", 2000001000, []),
        ("system-mine", 1,
            ["metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. "
             "error: system-mine is not a known system priority class"]),
    ],
)  # fmt: skip
def test_priorities(name: str, value: int, expected: list[str]) -> None:
    assert told("scheduling.k8s.io", "PriorityClass", name, value=value) == expected


def test_a_priority_stays() -> None:
    rules = rules_of("scheduling.k8s.io", "PriorityClass")
    old = rules.prepare_create(rules.default({"metadata": {"name": "p"}, "value": 1}))
    new = rules.prepare_update({**old, "value": 2, "preemptionPolicy": "Never"}, old)
    assert [each.field for each in rules.validate_update(new, old)] == ["value", "preemptionPolicy"]
    assert new["metadata"]["generation"] == 1


def test_runtimes() -> None:
    assert told("node.k8s.io", "RuntimeClass", handler="runc") == []
    assert told("node.k8s.io", "RuntimeClass") == ["handler: Required value"]
    toleration = {"key": "a", "operator": "Exists"}
    found = told("node.k8s.io", "RuntimeClass", handler="h", scheduling={"tolerations": [toleration, toleration]})
    assert found[0].startswith("scheduling.tolerations[1]: Duplicate value")


def test_storage_classes() -> None:
    assert told("storage.k8s.io", "StorageClass", provisioner="a.b/c") == []
    assert told("storage.k8s.io", "StorageClass") == ["provisioner: Required value"]
    assert told("storage.k8s.io", "StorageClass", provisioner="a.b/c", volumeBindingMode="") == [
        'volumeBindingMode: Unsupported value: "": supported values: "Immediate", "WaitForFirstConsumer"'
    ]
    term = {"matchLabelExpressions": [{"key": "zone", "values": ["a", "a"]}]}
    assert told("storage.k8s.io", "StorageClass", provisioner="a.b/c", allowedTopologies=[term, term]) == [
        'allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "a"',
        'allowedTopologies[1].matchLabelExpressions[0].values[1]: Duplicate value: "a"',
        'allowedTopologies[1].matchLabelExpressions: Duplicate value: ""',
    ]
    rules = rules_of("storage.k8s.io", "StorageClass")
    old = rules.default({"provisioner": "a.b/c"})
    assert [each.field for each in rules.validate_update({**old, "parameters": {"a": "b"}}, old)] == ["parameters"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"minAvailable": "50%"}, []),
        ({"maxUnavailable": "120%"},
            ['spec.maxUnavailable: Invalid value: "120%": must not be greater than 100%']),
        ({"minAvailable": -1}, ["spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"]),
        ({"minAvailable": 1, "maxUnavailable": 1},
            ['spec: Invalid value: {"MinAvailable":1,"Selector":null,"MaxUnavailable":1,'
             '"UnhealthyPodEvictionPolicy":null}: minAvailable and maxUnavailable cannot be both set']),
    ],
)  # fmt: skip
def test_budgets(spec: dict[str, Any], expected: list[str]) -> None:
    assert told("policy", "PodDisruptionBudget", spec=spec) == expected


def test_a_budgets_status_is_judged() -> None:
    rules = rules_of("policy", "PodDisruptionBudget")
    condition = {"type": "Ok", "status": "Odd", "reason": "a b"}
    status = {"currentHealthy": -1, "conditions": [condition]}
    fields = [each.field for each in rules.validate_status({"status": status}, {})]
    assert fields == [
        "status.conditions[0].status",
        "status.conditions[0].lastTransitionTime",
        "status.conditions[0].reason",
        "status.currentHealthy",
    ]


def test_a_driver_is_filled() -> None:
    spec = rules_of("storage.k8s.io", "CSIDriver").default({"metadata": {"name": "a.b"}})["spec"]
    assert spec == {
        "attachRequired": True,
        "podInfoOnMount": False,
        "storageCapacity": False,
        "fsGroupPolicy": "ReadWriteOnceWithFSType",
        "requiresRepublish": False,
        "seLinuxMount": False,
        "volumeLifecycleModes": ["Persistent"],
    }


def test_drivers_of_a_node() -> None:
    driver = {"name": "a.b", "nodeID": "n", "topologyKeys": ["zone", "zone"]}
    assert told("storage.k8s.io", "CSINode", spec={"drivers": [driver, {"name": "a.b"}]}) == [
        'spec.drivers[0]: Duplicate value: "zone"',
        "spec.drivers[1].nodeID: Required value",
        'spec.drivers[1].name: Duplicate value: "a.b"',
    ]
    rules = rules_of("storage.k8s.io", "CSINode")
    old = {"spec": {"drivers": [{"name": "a.b", "nodeID": "n"}]}}
    more = {"spec": {"drivers": [{"name": "a.b", "nodeID": "n", "allocatable": {"count": 3}}]}}
    moved = {"spec": {"drivers": [{"name": "a.b", "nodeID": "m"}]}}
    assert list(rules.validate_update(more, old)) == []
    assert [each.field for each in rules.validate_update(moved, old)] == ["spec.drivers"]


def test_attachments() -> None:
    assert told("storage.k8s.io", "VolumeAttachment", spec={"attacher": "a.b", "nodeName": "n"}) == [
        "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    ]


@pytest.mark.parametrize(
    ("limited", "expected"),
    [
        ({"limitResponse": {"type": "Reject"}}, []),
        ({"limitResponse": {"type": "Queue"}},
            ["spec.limited.limitResponse.queuing: Required value: must not be empty if limited.limitResponse.type is "
             "Limited"]),
        ({"limitResponse": {"type": "Queue", "queuing": {"queues": 4}}},
            ["spec.limited.limitResponse.queuing.handSize: Invalid value: 8: should not be greater than queues (4)"]),
        ({"limitResponse": {"type": "Reject"}, "lendablePercent": 101},
            ["spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive"]),
    ],
)  # fmt: skip
def test_priority_levels(limited: dict[str, Any], expected: list[str]) -> None:
    group = "flowcontrol.apiserver.k8s.io"
    assert told(group, "PriorityLevelConfiguration", spec={"type": "Limited", "limited": limited}) == expected


def test_flow_schemas() -> None:
    group = "flowcontrol.apiserver.k8s.io"
    rule = {
        "subjects": [{"kind": "User", "user": {"name": ""}, "group": {"name": "g"}}],
        "resourceRules": [{"verbs": ["get", "*"], "apiGroups": ["a"], "resources": ["b"]}],
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/a//b"]}],
    }
    found = told(group, "FlowSchema", spec={"priorityLevelConfiguration": {"name": "x"}, "rules": [rule]})
    assert found == [
        "spec.rules[0].subjects[0].user.name: Required value",
        "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
        'spec.rules[0].resourceRules[0].verbs: Invalid value: ["get","*"]: if \'*\' is present, must not specify other '
        "verbs",
        "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must "
        "supply at least one namespace",
        'spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "/a//b": must not contain double slash',
    ]
