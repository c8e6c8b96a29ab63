"""Nodes and pods for scheduler tests."""

from __future__ import annotations

from typing import Any

from anynode.api.objects import Object
from anynode.scheduler.pods import PodFacts, Shapes


def node(name: str, cpu: str = "4", memory: str = "8Gi", pods: str = "110", **more: Any) -> Object:
    labels = {"kubernetes.io/hostname": name, **more.get("labels", {})}
    allocatable = {"cpu": cpu, "memory": memory, "pods": pods, **more.get("extended", {})}
    spec: Object = {}
    if more.get("taints"):
        spec["taints"] = more["taints"]
    if more.get("unschedulable"):
        spec["unschedulable"] = True
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {"allocatable": allocatable},
    }


def pod(name: str, cpu: str = "", memory: str = "", labels: dict[str, str] | None = None, **spec: Any) -> Object:
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    requests |= spec.pop("extended", {})
    container: Object = {"name": "c", "image": "i", "resources": {"requests": requests} if requests else {}}
    if "ports" in spec:
        container["ports"] = spec.pop("ports")
    namespace = spec.pop("namespace", "default")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "uid": f"uid-{name}", "labels": labels or {}},
        "spec": {"containers": [container], "schedulerName": "default-scheduler", **spec},
        "status": {"phase": "Pending"},
    }


def facts(each: Object, shapes: Shapes | None = None) -> PodFacts:
    return (shapes or Shapes()).facts(each)
