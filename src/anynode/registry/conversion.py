"""Objects that are served in a second shape: events of events.k8s.io, autoscalers of autoscaling/v1.

Pure, both ways. Source: kubernetes ``pkg/apis/events/v1/conversion.go`` and ``pkg/apis/autoscaling/v1/conversion.go``,
1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from anynode.api.objects import Object, annotations_of, meta

CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
METRICS = "autoscaling.alpha.kubernetes.io/metrics"
CURRENT_METRICS = "autoscaling.alpha.kubernetes.io/current-metrics"
BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"

_EVENT_NAMES = {
    "regarding": "involvedObject",
    "note": "message",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
    "reportingController": "reportingComponent",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Conversion:
    """Between the shape a resource is served in and the one its kind is stored in."""

    to_stored: Callable[[Object], Object]
    to_served: Callable[[Object], Object]


def _renamed(obj: Object, names: Mapping[str, str], api_version: str, kind: str) -> Object:
    renamed = {names.get(field, field): value for field, value in obj.items()}
    return {**renamed, "kind": kind, "apiVersion": api_version}


def _event_to_stored(obj: Object) -> Object:
    return _renamed(obj, _EVENT_NAMES, "v1", "Event")


def _event_to_served(obj: Object) -> Object:
    names = {stored: served for served, stored in _EVENT_NAMES.items()}
    return _renamed(obj, names, "events.k8s.io/v1", "Event")


def _part_of(metric: Object) -> str:
    """``ContainerResource`` -> ``containerResource``: where a metric of this type says what it is."""
    kind = str(metric.get("type") or "")
    return kind[:1].lower() + kind[1:]


def _kept(value: Mapping[str, Any]) -> Object:
    return {key: each for key, each in value.items() if each is not None}


_NEVER_ABSENT: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "target": {"pods": ("targetAverageValue",), "object": ("targetValue",)},
    "current": {
        "resource": ("currentAverageValue",),
        "containerResource": ("currentAverageValue",),
        "pods": ("currentAverageValue",),
        "object": ("currentValue",),
        "external": ("currentValue",),
    },
}
"""Amounts the annotations always say, be it zero."""


def _metric_to_note(metric: Object, *, word: str) -> Object:
    """A metric of v2 as the annotations of v1 say it; ``word`` is target (a wish) or current (a measurement)."""
    part = _part_of(metric)
    said = metric.get(part) or {}
    amount = said.get("target" if word == "target" else "current") or {}
    source = said.get("metric") or {}
    note: Object
    if part in ("resource", "containerResource"):
        note = {
            "name": said.get("name"),
            f"{word}AverageUtilization": amount.get("averageUtilization"),
            f"{word}AverageValue": amount.get("averageValue"),
            "container": said.get("container"),
        }
    elif part == "pods":
        note = {"metricName": source.get("name"), f"{word}AverageValue": amount.get("averageValue")}
        note["selector"] = source.get("selector")
    elif part == "object":
        note = {"target": said.get("describedObject"), "metricName": source.get("name")}
        note |= {f"{word}Value": amount.get("value"), "selector": source.get("selector")}
        note["averageValue"] = amount.get("averageValue")
    else:
        note = {"metricName": source.get("name"), "metricSelector": source.get("selector")}
        note |= {f"{word}Value": amount.get("value"), f"{word}AverageValue": amount.get("averageValue")}
    for name in _NEVER_ABSENT[word].get(part, ()):
        if note.get(name) is None:
            note[name] = "0"
    return {"type": metric.get("type"), part: _kept(note)}


def _metric_of_note(note: Object, *, word: str) -> Object:
    """The metric of v2 an annotation of v1 means."""
    part = _part_of(note)
    said = note.get(part) or {}
    average = said.get(f"{word}AverageValue") if part != "object" else said.get("averageValue")
    amount: Object = {
        "averageUtilization": said.get(f"{word}AverageUtilization"),
        "averageValue": average,
        "value": said.get(f"{word}Value"),
    }
    if word == "target":
        kinds = (("averageUtilization", "Utilization"), ("averageValue", "AverageValue"), ("value", "Value"))
        amount["type"] = next((kind for field, kind in kinds if amount[field] is not None), None)
    metric: Object = {word: _kept(amount)}
    if part in ("resource", "containerResource"):
        metric |= {"name": said.get("name"), "container": said.get("container")}
    else:
        selector = said.get("metricSelector" if part == "external" else "selector")
        metric["metric"] = _kept({"name": said.get("metricName"), "selector": selector})
        metric["describedObject"] = said.get("target") if part == "object" else None
    return {"type": note.get("type"), part: _kept(metric)}


def _autoscaler_to_stored(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    notes = dict(annotations_of(obj))
    metrics = [_metric_of_note(note, word="target") for note in _noted(notes, METRICS) or ()]
    target = spec.pop("targetCPUUtilizationPercentage", None)
    if target is not None:
        resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}
        metrics = [{"type": "Resource", "resource": resource}, *metrics]
    if metrics:
        spec["metrics"] = metrics
    behavior = _noted(notes, BEHAVIOR)
    if behavior:
        spec["behavior"] = behavior
    current = [_metric_of_note(note, word="current") for note in _noted(notes, CURRENT_METRICS) or ()]
    used = status.pop("currentCPUUtilizationPercentage", None)
    if used is not None and not current:  # what the annotation says, says more
        resource = {"name": "cpu", "current": {"averageUtilization": used}}
        current = [{"type": "Resource", "resource": resource}, *current]
    if current:
        status["currentMetrics"] = current
    conditions = _noted(notes, CONDITIONS)
    if conditions:
        status["conditions"] = conditions
    return _autoscaler(obj, "autoscaling/v2", spec, status, notes)


def _autoscaler_to_served(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    notes = dict(annotations_of(obj))
    others = []
    for metric in spec.pop("metrics", None) or ():
        if "targetCPUUtilizationPercentage" not in spec and _is_cpu(metric, "target"):
            spec["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"]
        else:
            others.append(_metric_to_note(metric, word="target"))
    current = []
    for metric in status.pop("currentMetrics", None) or ():
        if _is_cpu(metric, "current"):
            status["currentCPUUtilizationPercentage"] = metric["resource"]["current"]["averageUtilization"]
        current.append(_metric_to_note(metric, word="current"))
    for name, value in (
        (METRICS, others), (BEHAVIOR, spec.pop("behavior", None)), (CURRENT_METRICS, current),
        (CONDITIONS, status.pop("conditions", None)),
    ):  # fmt: skip
        if value:
            notes[name] = orjson.dumps(value).decode()
    if "status" in obj:
        status.setdefault("currentReplicas", 0)
    return _autoscaler(obj, "autoscaling/v1", spec, status, notes)


def _autoscaler(obj: Object, api_version: str, spec: Object, status: Object, notes: Mapping[str, str]) -> Object:
    metadata = {field: value for field, value in meta(obj).items() if field != "annotations"}
    if notes:
        metadata["annotations"] = dict(notes)
    converted = {**obj, "apiVersion": api_version, "metadata": metadata, "spec": spec}
    if status or "status" in obj:
        converted["status"] = status
    return converted


def _noted(notes: dict[str, str], name: str) -> Any:
    text = notes.pop(name, None)
    if not text:
        return None
    try:
        read = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    # Whatever a user wrote there: what is no list of objects (or no object) says nothing.
    wanted = dict if name == BEHAVIOR else list
    if not isinstance(read, wanted):
        return None
    return read if wanted is dict else [each for each in read if isinstance(each, dict)]


def _is_cpu(metric: Object, part: str) -> bool:
    resource = metric.get("resource") or {}
    value = (resource.get(part) or {}).get("averageUtilization")
    return metric.get("type") == "Resource" and resource.get("name") == "cpu" and value is not None


CONVERSIONS: Mapping[tuple[str, str, str], Conversion] = {
    ("events.k8s.io", "v1", "events"): Conversion(_event_to_stored, _event_to_served),
    ("autoscaling", "v1", "horizontalpodautoscalers"): Conversion(_autoscaler_to_stored, _autoscaler_to_served),
}
