"""Rows of apps, batch, autoscaling and policy kinds, of replication controllers and pod templates.

Source: kubernetes ``pkg/printers/internalversion/printers.go``, 1.36.
"""

from __future__ import annotations

import datetime
from typing import Any

from anynode.api import objects, resources
from anynode.api.objects import Object
from anynode.apiserver.printers.wording import (
    NONE,
    UNKNOWN,
    UNSET,
    age,
    between,
    boolean,
    containers_and_images,
    label_list,
    selector,
    since,
    template_cells,
)

METRICS_LISTED = 2
JOB_STATES = (
    ("Complete", "Complete"),
    ("Failed", "Failed"),
    ("", "Terminating"),
    ("Suspended", "Suspended"),
    ("FailureTarget", "FailureTarget"),
    ("SuccessCriteriaMet", "SuccessCriteriaMet"),
)


def _parts(obj: Object) -> tuple[str, Object, Object]:
    """(name, spec, status)"""
    return obj["metadata"].get("name", ""), obj.get("spec") or {}, obj.get("status") or {}


def pod_template(obj: Object, _now: datetime.datetime) -> list[Any]:
    template = obj.get("template") or {}
    labels = label_list(objects.labels_of(template))
    return [objects.name_of(obj), *containers_and_images(template.get("spec")), labels]


def replication_controller(obj: Object, now: datetime.datetime) -> list[Any]:
    name, spec, status = _parts(obj)
    counts = [spec.get("replicas") or 0, status.get("replicas") or 0, status.get("readyReplicas") or 0]
    return [name, *counts, age(obj, now), *template_cells(spec), label_list(spec.get("selector"))]


def replica_set(obj: Object, now: datetime.datetime) -> list[Any]:
    name, spec, status = _parts(obj)
    counts = [spec.get("replicas") or 0, status.get("replicas") or 0, status.get("readyReplicas") or 0]
    return [name, *counts, age(obj, now), *template_cells(spec), selector(spec.get("selector"))]


def deployment(obj: Object, now: datetime.datetime) -> list[Any]:
    name, spec, status = _parts(obj)
    return [
        name,
        f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        status.get("updatedReplicas") or 0,
        status.get("availableReplicas") or 0,
        age(obj, now),
        *template_cells(spec),
        selector(spec.get("selector"), none="", wrong="<invalid>"),
    ]


def stateful_set(obj: Object, now: datetime.datetime) -> list[Any]:
    name, spec, status = _parts(obj)
    ready = f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}"
    return [name, ready, age(obj, now), *template_cells(spec)]


def daemon_set(obj: Object, now: datetime.datetime) -> list[Any]:
    name, spec, status = _parts(obj)
    fields = (
        "desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable",
    )  # fmt: skip
    nodes = label_list(objects.get_path(spec, "template", "spec", "nodeSelector"))
    counts = [status.get(field) or 0 for field in fields]
    return [name, *counts, nodes, age(obj, now), *template_cells(spec), selector(spec.get("selector"))]


def controller_revision(obj: Object, now: datetime.datetime) -> list[Any]:
    owner, said = objects.controller_of(obj), NONE
    if owner is not None:
        group = resources.GroupVersion.parse(owner.get("apiVersion", "")).group
        kind = f"{owner.get('kind', '')}.{group}" if group else owner.get("kind", "")
        said = f"{kind.lower()}/{owner.get('name', '')}" if kind else owner.get("name", "")
    return [objects.name_of(obj), said, obj.get("revision") or 0, age(obj, now)]


def job(obj: Object, now: datetime.datetime) -> list[Any]:
    name, spec, status = _parts(obj)
    succeeded, completions = status.get("succeeded") or 0, spec.get("completions")
    parallelism = spec.get("parallelism") or 0
    if completions is not None:
        done = f"{succeeded}/{completions}"
    else:
        done = f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"
    started, ended = status.get("startTime"), status.get("completionTime")
    took = "" if not started else between(started, ended) if ended else since(started, now)
    state = _job_state(obj, status)
    return [name, state, done, took, age(obj, now), *template_cells(spec), selector(spec.get("selector"))]


def _job_state(obj: Object, status: Object) -> str:
    holding = {each.get("type") for each in status.get("conditions") or () if each.get("status") == "True"}
    if objects.is_deleting(obj):
        holding.add("")
    return next((word for kind, word in JOB_STATES if kind in holding), "Running")


def cron_job(obj: Object, now: datetime.datetime) -> list[Any]:
    name, spec, status = _parts(obj)
    job_spec = objects.get_path(spec, "jobTemplate", "spec", default={})
    last = status.get("lastScheduleTime")
    return [
        name,
        spec.get("schedule", ""),
        spec.get("timeZone") or NONE,
        boolean(spec.get("suspend")),
        len(status.get("active") or ()),
        since(last, now) if last else NONE,
        age(obj, now),
        *template_cells(job_spec),
        selector(job_spec.get("selector")),
    ]


def pod_disruption_budget(obj: Object, now: datetime.datetime) -> list[Any]:
    name, spec, status = _parts(obj)
    bounds = [spec.get("minAvailable"), spec.get("maxUnavailable")]
    said = ["N/A" if bound is None else str(bound) for bound in bounds]
    return [name, *said, status.get("disruptionsAllowed") or 0, age(obj, now)]


def horizontal_pod_autoscaler(obj: Object, now: datetime.datetime) -> list[Any]:
    name, spec, status = _parts(obj)
    target, least = spec.get("scaleTargetRef") or {}, spec.get("minReplicas")
    specs, statuses = spec.get("metrics") or [], status.get("currentMetrics") or []
    if obj.get("apiVersion") == "autoscaling/v1":
        specs, statuses = _version_1_metrics(spec, status)
    return [
        name,
        f"{target.get('kind', '')}/{target.get('name', '')}",
        metrics(specs, statuses),
        UNSET if least is None else str(least),
        spec.get("maxReplicas") or 0,
        status.get("currentReplicas") or 0,
        age(obj, now),
    ]


def _version_1_metrics(spec: Object, status: Object) -> tuple[list[Object], list[Object]]:
    """autoscaling/v1 knows one metric, the processors' use."""

    def cpu(field: str, value: int | None) -> list[Object]:
        if value is None:
            return []
        return [{"type": "Resource", "resource": {"name": "cpu", field: {"averageUtilization": value}}}]

    current = cpu("current", status.get("currentCPUUtilizationPercentage"))
    return cpu("target", spec.get("targetCPUUtilizationPercentage")), current


def metrics(specs: list[Object], statuses: list[Object]) -> str:
    """``cpu: 10%/50%`` for each of the first two metrics."""
    if not specs:
        return NONE
    listed = [_metric(spec, statuses[index] if index < len(statuses) else {}) for index, spec in enumerate(specs)]
    said = ", ".join(listed[:METRICS_LISTED])
    more = len(listed) - METRICS_LISTED
    return f"{said} + {more} more..." if more > 0 else said


def _metric(spec: Object, status: Object) -> str:
    kind = spec.get("type", "")
    field = kind[:1].lower() + kind[1:]
    if kind not in ("External", "Pods", "Object", "Resource", "ContainerResource"):
        return "<unknown type>"
    source = spec.get(field) or {}
    target, current = source.get("target") or {}, (status.get(field) or {}).get("current") or {}
    average = target.get("averageValue")
    by_resource = kind in ("Resource", "ContainerResource")
    head = f"{source.get('name', '')}: " if by_resource else ""
    if average is not None or kind == "Pods":
        tail = " (avg)" if kind in ("External", "Object") else ""
        return f"{head}{current.get('averageValue', UNKNOWN)}/{average}{tail}"
    if not by_resource:
        return f"{current.get('value', UNKNOWN)}/{target.get('value', 0)}"
    used, wanted = current.get("averageUtilization"), target.get("averageUtilization")
    said = UNKNOWN if used is None else f"{used}%"
    return f"{head}{said}/{'<auto>' if wanted is None else f'{wanted}%'}"
