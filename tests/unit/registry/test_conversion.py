from __future__ import annotations

import orjson
import pytest

from anynode.api.objects import Object
from anynode.registry.conversion import CONVERSIONS

EVENTS = CONVERSIONS["events.k8s.io", "v1", "events"]
AUTOSCALERS = CONVERSIONS["autoscaling", "v1", "horizontalpodautoscalers"]


def test_an_event_keeps_all_it_says() -> None:
    served = {
        "kind": "Event",
        "apiVersion": "events.k8s.io/v1",
        "metadata": {"name": "e"},
        "regarding": {"kind": "Pod"},
        "note": "n",
        "reason": "R",
        "reportingController": "c",
        "deprecatedCount": 3,
    }
    stored = EVENTS.to_stored(served)
    assert (stored["apiVersion"], stored["involvedObject"], stored["message"]) == ("v1", {"kind": "Pod"}, "n")
    assert (stored["reportingComponent"], stored["count"]) == ("c", 3)
    assert EVENTS.to_served(stored) == served


def test_an_autoscaler_of_v1_is_one_metric_of_v2_and_notes_the_rest() -> None:
    served: Object = {
        "kind": "HorizontalPodAutoscaler",
        "apiVersion": "autoscaling/v1",
        "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 80},
    }
    stored = AUTOSCALERS.to_stored(served)
    assert stored["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 80
    assert AUTOSCALERS.to_served(stored) == served
    assert AUTOSCALERS.to_served({**stored, "status": {}})["status"] == {"currentReplicas": 0}
    memory = {
        "type": "Resource",
        "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}},
    }
    stored["spec"]["metrics"].append(memory)
    shown = AUTOSCALERS.to_served(stored)
    assert "autoscaling.alpha.kubernetes.io/metrics" in shown["metadata"]["annotations"]
    assert memory in AUTOSCALERS.to_stored(shown)["spec"]["metrics"]


@pytest.mark.parametrize(
    ("metric", "note"),
    [
        (
            {
                "type": "Resource",
                "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1"}},
            },
            {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1"}},
        ),
        (
            {
                "type": "Pods",
                "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1"}},
            },
            {"type": "Pods", "pods": {"metricName": "m", "targetAverageValue": "1"}},
        ),
        (
            {
                "type": "Object",
                "object": {
                    "describedObject": {"kind": "Service", "name": "s"},
                    "metric": {"name": "m"},
                    "target": {"type": "Value", "value": "2"},
                },
            },
            {
                "type": "Object",
                "object": {"target": {"kind": "Service", "name": "s"}, "metricName": "m", "targetValue": "2"},
            },
        ),
        (
            {
                "type": "External",
                "external": {
                    "metric": {"name": "m", "selector": {"matchLabels": {"a": "b"}}},
                    "target": {"type": "Value", "value": "3"},
                },
            },
            {
                "type": "External",
                "external": {
                    "metricName": "m", "metricSelector": {"matchLabels": {"a": "b"}}, "targetValue": "3",
                },
            },
        ),
    ],
)  # fmt: skip
def test_a_metric_is_noted_as_v1_notes_it(metric: Object, note: Object) -> None:
    stored = {"metadata": {"name": "h"}, "spec": {"maxReplicas": 1, "metrics": [metric]}}
    notes = AUTOSCALERS.to_served(stored)["metadata"]["annotations"]
    assert orjson.loads(notes["autoscaling.alpha.kubernetes.io/metrics"]) == [note]
    assert AUTOSCALERS.to_stored(AUTOSCALERS.to_served(stored))["spec"]["metrics"] == [metric]


@pytest.mark.parametrize("text", ["{nope", "5", '{"a":1}', "[1]"])
def test_notes_that_make_no_sense_say_nothing(text: str) -> None:
    served = {"metadata": {"annotations": {"autoscaling.alpha.kubernetes.io/metrics": text}}, "spec": {}}
    assert "metrics" not in AUTOSCALERS.to_stored(served)["spec"]
