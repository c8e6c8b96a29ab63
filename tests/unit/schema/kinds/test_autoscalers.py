"""Horizontal pod autoscalers of both versions."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.kinds.catalogue import rules_of

RULES = rules_of("autoscaling", "HorizontalPodAutoscaler")
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}


def autoscaler(version: str = "v2", **spec: Any) -> dict[str, Any]:
    whole = {"scaleTargetRef": TARGET, "maxReplicas": 3, **spec}
    given = {"apiVersion": f"autoscaling/{version}", "metadata": {"name": "h"}, "spec": whole}
    return dict(RULES.prepare_create(RULES.default(given)))


def told(version: str = "v2", **spec: Any) -> list[str]:
    return [f"{each.field}: {each.message}" for each in RULES.validate(autoscaler(version, **spec))]


def test_each_version_has_its_defaults() -> None:
    new, old = autoscaler(), autoscaler("v1")
    target = {"type": "Utilization", "averageUtilization": 80}
    assert new["spec"]["metrics"] == [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    assert new["status"] == {"desiredReplicas": 0, "currentMetrics": None}
    assert "metrics" not in old["spec"]
    assert old["status"] == {"currentReplicas": 0, "desiredReplicas": 0}


def test_a_behavior_is_completed() -> None:
    behavior = autoscaler(behavior={"scaleDown": {"selectPolicy": "Min"}})["spec"]["behavior"]
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert [each["type"] for each in behavior["scaleUp"]["policies"]] == ["Pods", "Percent"]
    assert behavior["scaleDown"]["selectPolicy"] == "Min"
    assert "stabilizationWindowSeconds" not in behavior["scaleDown"]


CPU = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"maxReplicas": 0},
            ["spec.maxReplicas: Required value: must be set and greater than 0",
             "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`"]),
        ({"minReplicas": 0},
            ["spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
             "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to "
             "zero replicas"]),
        ({"scaleTargetRef": {"kind": "ReplicationController", "name": "r", "apiVersion": "v1"}}, []),
        ({"scaleTargetRef": {**TARGET, "apiVersion": "v1"}},
            ['spec.scaleTargetRef.apiVersion: Invalid value: "v1": apiVersion must specify API group']),
        ({"metrics": [{"type": "Resource", "resource": CPU, "pods": {}}]},
            ["spec.metrics[0].pods.metric.name: Required value: must specify a metric name",
             "spec.metrics[0].pods.target.type: Required value: must specify a metric target type",
             'spec.metrics[0].pods.target.type: Invalid value: "": must be either Utilization, Value, or AverageValue',
             "spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target averageValue",
             "spec.metrics[0].pods: Forbidden: must populate the given metric source only"]),
        ({"behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 1801}]}}},
            ["spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to "
             "1800"]),
    ],
)  # fmt: skip
def test_bad_autoscalers(spec: dict[str, Any], expected: list[str]) -> None:
    assert told(**spec) == expected


def test_the_old_version_names_the_metric_it_means() -> None:
    assert told("v1", targetCPUUtilizationPercentage=0) == [
        "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0"
    ]


def test_what_was_odd_before_may_stay() -> None:
    old = autoscaler(scaleTargetRef={**TARGET, "apiVersion": "v1"})
    assert list(RULES.validate(old)) != []
    assert list(RULES.validate_update({**old, "spec": {**old["spec"], "maxReplicas": 9}}, old)) == []
