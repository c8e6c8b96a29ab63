"""Pods and reports for the node's tests, short to write."""

from __future__ import annotations

import datetime
from typing import Any

from anynode.api.objects import Object, Uid
from anynode.node.pod_machine import PodState
from anynode.provider import ContainerReport, ContainerState, PodSandbox

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
UID = Uid("uid-1")


def container(name: str, **fields: Any) -> Object:
    return {"name": name, "image": "example:1", **fields}


def pod(*containers: Object, init: tuple[Object, ...] = (), **spec: Any) -> Object:
    full: Object = {"containers": list(containers) or [container("main")], "nodeName": "node-1", **spec}
    if init:
        full["initContainers"] = list(init)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default", "uid": UID, "generation": 1},
        "spec": full,
    }


def report(name: str, attempt: int = 0, code: int | None = None, **fields: Any) -> ContainerReport:
    """Running, or ended with ``code``."""
    ended = code is not None
    return ContainerReport(
        uid=UID,
        container=name,
        attempt=attempt,
        state=ContainerState.TERMINATED if ended else ContainerState.RUNNING,
        container_id=f"test://{name}-{attempt}",
        image_id="image-id",
        exit_code=code or 0,
        reason=("Completed" if code == 0 else "Error") if ended else "",
        started_at=START,
        finished_at=START if ended else None,
        **fields,
    )


def state(obj: Object, *reports: ContainerReport, now: float = 0.0) -> PodState:
    """A pod whose sandbox is there and whose containers said this; what runs has started and is ready."""
    made = PodState(pod=obj, sandbox=PodSandbox(pod_ip="127.128.0.1", host_ip="127.0.0.1"), started_at=START)
    for each in reports:
        made.observe(each, now)
        record = made.record(each.container)
        record.image = "example:1"
        if each.state is ContainerState.RUNNING:
            record.started = record.ready = True
    return made
