from __future__ import annotations

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
    memory = {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Value", "value": "1"}}}
    stored["spec"]["metrics"].append(memory)
    shown = AUTOSCALERS.to_served(stored)
    assert "autoscaling.alpha.kubernetes.io/metrics" in shown["metadata"]["annotations"]
    assert memory in AUTOSCALERS.to_stored(shown)["spec"]["metrics"]
